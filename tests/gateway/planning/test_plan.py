"""Plans as a person and a program get them; among them what TitanML's article says, made true.

"Harmonizing Multi-GPUs: Efficient Scaling of LLM Inference", Tables 1 and 2 and the arithmetic of
a cache for 13 billion parameters.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.default_model import FILE_NAME
from tests.backend.factories import write_mixed_gguf
from tests.backend.placement.planned_models import FIELDS

# GB in fp32, fp16 and int8.
TABLE_1 = {
    "OPT-1.3b": (5.2, 2.6, 1.3),
    "Llama-2-7b": (28.0, 14.0, 7.0),
    "Llama-2-13b": (52.0, 26.0, 13.0),
    "Flan-T5-L": (3.1, 1.6, 0.8),
    "Flan-T5-XL": (12.0, 6.0, 3.0),
    "BERT-L": (1.2, 0.6, 0.3),
    "BERT-XL": (5.2, 2.6, 1.3),
}
# Billions, where the article's are rounded to fewer digits than its sizes have.
TRUE_BILLIONS = {
    "Llama-2-7b": "6.738",
    "Flan-T5-XL": "2.85",
    "BERT-L": "0.3341",
    "BERT-XL": "1.271",
}


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))


def plan(*argv: str) -> int:
    return cli.main(["plan", *argv])


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    plan(*argv, "--json")
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", TABLE_1)
def test_table_1_of_the_article_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its figures are those of as many parameters, rounded; where there are fewer, that is said."""
    assert plan(name, "--devices", "A100-80GB") == 0
    text = capsys.readouterr().out
    fp32, fp16, int8 = TABLE_1[name]
    words = " ".join(text.split())
    assert f"Table 1: {fp32:.1f}, {fp16:.1f} and {int8:.1f} GB in fp32, fp16, int8" in words
    if name in TRUE_BILLIONS:
        assert f"There are {TRUE_BILLIONS[name]} billion" in words
    else:
        assert "int8: the same, rounded" in words
    sizes = {
        row[0]: float(row[1])
        for row in re.findall(r"^(fp32|bf16, fp16) +([\d.,]+)", text, re.MULTILINE)
    }
    digits = 0.06 * fp32 if name != "BERT-L" else 0.12 * fp32
    assert sizes["fp32"] == pytest.approx(fp32, abs=digits)
    assert sizes["bf16, fp16"] == pytest.approx(fp16, abs=digits / 2 + 0.01)


def test_table_2_of_the_article_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A 7b fits in fp16 on cards of 16 GB by its weights, a 13b on an A100 alone."""
    memory = {"RTX3060": 12, "V100": 16, "RTX4090": 24, "A10": 24, "A100-40GB": 40, "A100-80GB": 80}
    assert plan("Llama-2-13b", "--devices", "4xA10") == 0
    text = capsys.readouterr().out
    found = {name: (int(gib), needed) for name, gib, needed in _cards(text)}
    assert {name: found[name][0] for name in memory} == memory
    needed = {name: int(found[name][1]) for name in memory}
    assert [name for name in memory if needed[name] == 1] == ["A100-40GB", "A100-80GB"]
    plan("Llama-2-7b", "--devices", "4xA10")
    found = {name: (int(gib), needed) for name, gib, needed in _cards(capsys.readouterr().out)}
    assert {name for name in memory if found[name][1] != "1"} == {"RTX3060"}


def _cards(text: str) -> list[tuple[str, str, str]]:
    return re.findall(r"^(\S+) +(\d+) GiB +(\d+)", text, re.MULTILINE)


def test_article_arithmetic_of_a_cache_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """1 MB a token for 13b: 256 MB for 128 tokens and 128 more, so that 48 fill a 3060."""
    plan("Llama-2-13b", "--devices", "4xA10", "--prompt", "128", "--output", "128")
    words = " ".join(capsys.readouterr().out.split())
    # 13.016 billion: a thousandth more than the rule's 13.
    assert "1 MiB a token for 13 billion parameters: 1.05 MB a token, 269 MB for 256" in words
    assert "47 sequences fill a 3060's 12 GiB" in words
    # Two times 40 layers of 5,120 numbers of two bytes.
    assert "Kept are 819 kB, so 61." in words
    assert 40 * 2 * 5120 * 2 == 819_200 and 12 * 2**30 // (256 * 819_200) == 61


def test_rule_of_thumb_is_off_where_heads_share_keys(capsys: pytest.CaptureFixture[str]) -> None:
    plan("Llama-3.1-8B", "--devices", "A10")
    assert "Kept is 4.9 times less: heads share keys" in " ".join(capsys.readouterr().out.split())


def test_layouts_are_ranked_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "Llama-2-13b", "--devices", "4xA10", "--concurrency", "48")
    layouts = [(each["tp"], each["pp"], each["dp"]) for each in found["layouts"]]
    whole, staged = [(2, 1, 2), (3, 1, 1), (4, 1, 1)], [(1, 2, 2), (1, 4, 1), (2, 2, 1)]
    assert sorted(layouts) == sorted(whole + staged)
    rates = [each["tokens_per_s"] for each in found["layouts"]]
    assert rates == sorted(rates, reverse=True)
    [refused] = found["refused"]
    assert (refused["tp"], refused["dp"], refused["change"]) == (1, 4, "--tp 2")
    assert "weights and activations need 26" in refused["reason"]
    assert found["command"].startswith("unisono serve meta-llama/Llama-2-13b-hf --tp ")
    for each in found["layouts"]:
        memory = each["memory"]
        assert sum(memory.values()) - memory["device_bytes"] <= memory["device_bytes"]


@pytest.mark.parametrize(
    ("objective", "key", "is_least"),
    [
        ("throughput", "tokens_per_s", False),
        ("latency", "request_s", True),
        ("fit", "fitting_seqs", False),
    ],
)
def test_objective_orders_layouts(
    objective: str, key: str, is_least: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("OPT-1.3b", "--devices", "4xA10", "--objective", objective)
    values = [each[key] for each in as_json(capsys, *argv)["layouts"]]
    assert values == sorted(values, reverse=not is_least) and len(values) == 7


@pytest.mark.parametrize("batch", ["64", "256"])
def test_small_model_is_better_repeated_than_split(
    batch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the article finds at its large batches: a multi-gpu environment is wasted for a small
    model. Of few streams two cards read the weights in half the time, for short sums."""
    found = as_json(capsys, "OPT-1.3b", "--devices", "4xA10", "--concurrency", batch)
    [best, *_] = found["layouts"]
    assert (best["tp"], best["dp"]) == (1, 4)


def test_model_that_fits_nowhere_says_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("Llama-2-70b", "--devices", "2xA10") == 1
    words = " ".join(capsys.readouterr().out.split())
    assert (
        "Llama-2-70b fits nowhere here. TP 1 x PP 2 x DP 1 comes nearest: each device is short"
        in words
    )
    assert re.search(r"short of 4\d\.\d GB for weights and one sequence", words)
    assert "Cheapest: 6 x A10 with --tp 6" in words


def test_memory_alone_ranks_by_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("Llama-2-7b", "--devices", "4x24GiB") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "best first by sequences that fit" in words
    assert "tok/s" not in words and "tokens/s" not in words


def test_every_cache_group_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Windows, states and compressed keys."""
    gemma = as_json(capsys, "gemma-3-4b", "--devices", "A10", "--prompt", "4096")["cache"]
    assert [(each["window"], each["layers"]) for each in gemma["groups"]] == [(0, 5), (1024, 29)]
    states = as_json(capsys, "Qwen3.5-9B", "--devices", "A10")["cache"]
    assert states["state_bytes"] > 50e6 and states["groups"][0]["layers"] == 8
    vectors = as_json(capsys, "BERT-L", "--devices", "A10")
    assert vectors["cache"]["bytes_per_sequence"] == 0 and vectors["layouts"]


def test_file_is_planned_in_its_own_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mixed_gguf(tmp_path)
    found = as_json(capsys, str(path), "--devices", "cpu", "--prompt", "16", "--output", "16")
    assert [row["format"] for row in found["weights"]][-1] == "as stored"
    assert found["cards"] == [] and found["devices"]["kind"] == "cpu"
    assert found["command"].startswith(f"unisono serve {path} --tp ")


def test_default_model_is_planned_without_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys)["model"]["name"] == "SmolLM2-135M", f"no {FILE_NAME} in the cache"


def test_output_fits_into_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    plan("Qwen3-30B-A3B", "--devices", "4xA100-40GB", "--concurrency", "64")
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["Llama-2-14b"], 1, "did you mean Llama-2-13b"),
        (["Llama-2-7b", "--devices", "2xA11"], 2, "A11 is no card that is known here"),
        (["Llama-2-7b", "--prompt", "5000"], 1, "5,128 tokens, Llama-2-7b takes 4,096"),
        (["Flan-T5-XL", "--devices", "cpu", "--kv-cache-dtype", "int8"], 1, "reads no int8"),
        (["Flan-T5-XL", "--devices", "V100"], 1, "the sums of a t5 exceed its range"),
        (["Llama-2-7b", "--prompt", "0"], 2, "--prompt must be an integer from 1"),
        (["Llama-2-7b", "--expert-parallel", "--devices", "2xH100"], 1, "has no experts"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    argv: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        ended: int | str | None = plan(*argv)
    except SystemExit as exit_:
        ended = exit_.code
    captured = capsys.readouterr()
    assert ended == status and words in " ".join((captured.err + captured.out).split())


def test_list_shows_models_and_cards(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--list") == 0
    text = capsys.readouterr().out
    assert "Llama-2-13b" in text and "MI300X" in text


def test_config_of_one_size_is_planned_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FIELDS))
    found = as_json(capsys, str(tmp_path), "--devices", "A10", "--prompt", "8", "--output", "8")
    assert found["model"]["num_parameters"] == 106_816
    assert found["weights"][0]["model_bytes"] == 4 * 106_816


def test_any_name_of_a_directory_can_be_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blanks are quoted, brackets are no markup, which was left out in tables."""
    directory = tmp_path / "my model [red]"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(FIELDS))
    argv = [str(directory), "--devices", "A10", "--prompt", "8", "--output", "8"]
    assert as_json(capsys, *argv)["command"].startswith(f"unisono serve '{directory}' --tp")
    plan(*argv, "--expert-parallel")
    text = " ".join(capsys.readouterr().out.split())
    assert "my model [red] has no experts" in text
    assert "cannot be served so." in text and "fits nowhere" not in text, "memory is not why"
