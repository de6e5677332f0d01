"""lm-eval gets the same scores from the server as from transformers, both from one GGUF file.

`local-completions` asks for prompts of ids, echoed, with log-probabilities; `hf` computes the same
in transformers, which reads the file with its own code. Neither has a line of ours.
"""

import json
from pathlib import Path

import msgspec
import pytest

from gateway.default_model import default_model
from tests.e2e.server import Server
from tests.suites.environment import OFFLINE, installed, run

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

REQUIREMENTS = ("lm-eval[api]==0.4.13", "accelerate==1.15.0")  # accelerate: to read GGUF files
MODEL = "SmolLM2-135M-Instruct"
TASK = "questions"
RUN_SECONDS = 600.0
# Sums of up to 16 log-probabilities in float32, of which the largest difference was 5.5e-5.
TOLERANCE = 1e-3

TASK_FILE = """\
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {items}
test_split: test
output_type: multiple_choice
doc_to_text: question
doc_to_choice: choices
doc_to_target: answer
target_delimiter: " "
metric_list:
  - metric: acc
  - metric: acc_norm
"""

SAVE_TOKENIZER = """\
import sys
from transformers import AutoTokenizer
directory, file, target = sys.argv[1:]
AutoTokenizer.from_pretrained(directory, gguf_file=file).save_pretrained(target)
"""

# The right choice comes first here; where it stands in the task changes from item to item.
ITEMS = [
    ("The capital of France is", ["Paris", "Berlin", "a kind of cheese"]),
    ("Water is made of hydrogen and", ["oxygen", "iron", "salt"]),
    ("The opposite of hot is", ["cold", "very warm indeed", "seven"]),
    ("Two plus two equals", ["four", "five", "twenty-two"]),
    ("The sun rises in the", ["east", "west", "kitchen sink"]),
    ("A baby cat is called a", ["kitten", "puppy", "foal"]),
    ("The largest planet of the solar system is", ["Jupiter", "Mars", "the Moon"]),
    ("Shakespeare wrote", ["Romeo and Juliet", "the telephone book", "War and Peace"]),
    ("Bees make", ["honey", "milk", "wool"]),
    ("The colour of fresh snow is", ["white", "green", "black"]),
    ("A triangle has", ["three sides", "four sides", "no sides"]),
    ("The chemical symbol of gold is", ["Au", "Fe", "Zz"]),
    ("In which month is Christmas? It is in", ["December", "July", "Monday"]),
    ("The language spoken in Brazil is", ["Portuguese", "Swedish", "Latin"]),
    ("To cut paper you use", ["scissors", "a spoon", "a pillow"]),
    ("def add(a, b):\n    return", ["a + b", "a - c", "None of them"]),
    ("1, 2, 3, 4, 5,", ["6", "17", "-3"]),
    ("Der Hund bellt, die Katze", ["miaut", "fliegt", "programmiert"]),
    ("Le café est servi avec du lait et du", ["sucre", "béton", "goudron"]),
    ("東京は日本の", ["首都です", "川です", "野菜です"]),
    ("An ellipsis is written …, and a snowman is written", ["☃", "plain", "🙂🙂🙂"]),
    ("The moon goes around the", ["Earth", "clock", "supermarket"]),
    ("Ice melts when it gets", ["warm", "colder", "painted"]),
    ("A week has", ["seven days", "nine days", "ten months"]),
    ("The past tense of go is", ["went", "goed", "gone away with the wind"]),
    ("You write with a", ["pen", "fork", "cloud"]),
    ("The heart pumps", ["blood", "air", "petrol"]),
    ("The author of a book is the person who", ["wrote it", "sold it", "ate it for breakfast"]),
    ("Plants need water, air and", ["light", "shoes", "an account"]),
    (
        "Anna put the key into the drawer, went to work, came home late, had a bowl of soup, read "
        "the newspaper from the first page to the last, and looked for the key. She looked in the",
        ["drawer", "soup", "ocean"],
    ),
]


class Outcome(msgspec.Struct):
    """What lm-eval found: the task's scores, and each choice's log-probability and greediness."""

    acc: float
    acc_norm: float
    loglikelihoods: list[float]
    are_greedy: list[str]


@pytest.fixture(scope="module")
def tools() -> Path:
    """The directory of lm-eval's programs."""
    return installed("lm-eval", *REQUIREMENTS, sees_ours=True)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the task."""
    directory = tmp_path_factory.mktemp("task")
    items = directory / "items.jsonl"
    with items.open("w") as file:
        for index, (question, choices) in enumerate(ITEMS):
            answer = index % len(choices)
            turned = choices[-answer:] + choices[:-answer] if answer else choices
            item = {"question": question, "choices": turned, "answer": answer}
            file.write(json.dumps(item) + "\n")
    (directory / f"{TASK}.yaml").write_text(TASK_FILE.format(task=TASK, items=items))
    return directory


def evaluate(tools: Path, task: Path, model: str, *arguments: str) -> Outcome:
    """Run the task and read what lm-eval has written."""
    target = task / model
    what = ["--tasks", TASK, "--include_path", str(task), "--batch_size", "8"]
    where = ["--log_samples", "--output_path", str(target)]
    run(
        tools / "lm_eval",
        *("run", "--model", model, "--model_args", ",".join(arguments), *what, *where),
        limit_s=RUN_SECONDS,
        variables={**OFFLINE, "HF_DATASETS_CACHE": str(task / "cache")},
    )
    [results] = target.rglob("results_*.json")
    [samples] = target.rglob("samples_*.jsonl")
    scores = json.loads(results.read_text())["results"][TASK]
    pairs = [
        pair
        for line in sorted(
            map(json.loads, samples.read_text().splitlines()), key=lambda line: line["doc_id"]
        )
        for pair in line["filtered_resps"]
    ]
    return Outcome(
        scores["acc,none"],
        scores["acc_norm,none"],
        [float(loglikelihood) for loglikelihood, _ in pairs],
        [is_greedy for _, is_greedy in pairs],
    )


def test_scores_are_those_of_transformers(tools: Path, task: Path) -> None:
    file = default_model()
    tokenizer = task / "tokenizer"
    arguments = ("-c", SAVE_TOKENIZER, file.parent, file.name, tokenizer)
    run(tools / "python", *arguments, limit_s=RUN_SECONDS, variables=OFFLINE)
    ours_args = (f"model={MODEL}", f"tokenizer={tokenizer}", "tokenized_requests=True")
    with Server("--dtype", "float32") as server:
        url = f"base_url={server.url}/v1/completions"
        client_args = ("num_concurrent=4", "max_length=2048")
        ours = evaluate(tools, task, "local-completions", *ours_args, url, *client_args)
    hf_args = (f"pretrained={file.parent}", f"gguf_file={file.name}", "dtype=float32")
    theirs = evaluate(tools, task, "hf", *hf_args)

    differences = [
        abs(a - b) for a, b in zip(ours.loglikelihoods, theirs.loglikelihoods, strict=True)
    ]
    print(
        f"{len(ITEMS)} items, {len(differences)} choices: acc {ours.acc:.3f} ({theirs.acc:.3f}), "
        f"acc_norm {ours.acc_norm:.3f} ({theirs.acc_norm:.3f}), "
        f"log-probabilities differ by at most {max(differences):.1e}"
    )
    assert max(differences) < TOLERANCE
    assert ours.are_greedy == theirs.are_greedy
    assert (ours.acc, ours.acc_norm) == (theirs.acc, theirs.acc_norm)
    # It does know something, and not everything: other scores would be the same for any model.
    assert 0.4 < ours.acc < 1
