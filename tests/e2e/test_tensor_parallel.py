"""Models on one, two and three ranks: the same text, and each rank holds only its part."""

import re
from pathlib import Path

import pytest

from gateway.default_model import default_model
from gateway.text.tokenizer import Tokenizer
from tests.backend.factories import write_tiny_llama
from tests.e2e.clients import openai_client
from tests.e2e.oracle import NUM_TOKENS, decided_texts
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n",
    "The three states of matter are",
    "Dear Sir or Madam,",
    "1, 2, 3, 5, 8, 13,",
    "Water boils at a temperature of",
    "To make a good cup of tea, first",
    "The opposite of hot is cold. The opposite of big is",
    "In 1969, the first human",
]
# Logits. In float32 the order of the sums moves them by some 1e-5.
MIN_GAP = 0.01
# Two and one of three KV heads are evened out by MLP columns in units of 32 of 1,536.
UNEVENNESS = 0.03
AMOUNT = re.compile(r"([\d.]+) ([kM])B")
MEGABYTES = {"k": 1e-3, "M": 1.0}


def greedy_texts(server: Server, model: str) -> list[str]:
    with openai_client(server.url) as client:
        answer = client.completions.create(
            model=model,
            prompt=PROMPTS,
            max_tokens=NUM_TOKENS,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(PROMPTS) * NUM_TOKENS
    return [choice.text for choice in answer.choices]


@pytest.mark.parametrize("tp", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_greedy_text_is_the_oracles(tp: int) -> None:
    model = default_model()
    expected = decided_texts(model, Tokenizer.load(model), PROMPTS, MIN_GAP)
    arguments = ["--dtype", "float32", "--tp", str(tp), "--kv-cache-bytes", str(1 << 28)]
    with Server(*arguments) as server:
        texts = greedy_texts(server, "SmolLM2-135M-Instruct")
    for prompt, text in zip(PROMPTS, texts, strict=True):
        assert text.startswith(expected[prompt])
    assert texts[0].startswith(" Paris")
    assert sum(map(len, expected.values())) > sum(map(len, texts)) / 2


class Started:
    """What a server of one size says: greedy texts, the megabytes of its ranks and on each."""

    def __init__(self, model: Path, tp: int) -> None:
        arguments = ["--dtype", "float32", "--tp", str(tp), "--kv-cache-bytes", str(1 << 24)]
        with Server(model, *arguments) as server:
            self.texts = greedy_texts(server, model.name)
            [line] = [line for line in server.stderr.splitlines() if line.startswith("  weights")]
        *self.ranks, self.replicated = (
            float(number) * MEGABYTES[unit] for number, unit in AMOUNT.findall(line)
        )


@pytest.fixture(scope="module")
def uneven_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers like those of the default model, whose heads two ranks cannot share evenly."""
    return write_tiny_llama(
        tmp_path_factory.mktemp("model") / "uneven",
        hidden_size=576,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        intermediate_size=1536,
        num_layers=3,
    )


@pytest.fixture(scope="module")
def on_one_rank(uneven_model: Path) -> Started:
    return Started(uneven_model, 1)


@pytest.mark.parametrize("tp", [2, 3])
def test_each_rank_holds_its_share_of_the_weights(
    uneven_model: Path, on_one_rank: Started, tp: int
) -> None:
    started = Started(uneven_model, tp)
    assert started.texts == on_one_rank.texts
    assert len(started.ranks) == tp
    replicated = on_one_rank.replicated
    assert started.replicated == replicated
    [total] = on_one_rank.ranks
    share = (total - replicated) / tp
    assert [rank - replicated for rank in started.ranks] == pytest.approx(
        [share] * tp, rel=UNEVENNESS
    )
    # Nothing is missing and nothing is held twice, to the decimal that is shown.
    assert sum(started.ranks) - tp * replicated == pytest.approx(
        total - replicated, abs=0.1 * (tp + 1)
    )
