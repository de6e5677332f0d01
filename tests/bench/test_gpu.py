"""The benchmark of GPUs, as far as there is none: its order, its words, its arithmetic."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.backend.factories import tiny_config, write_tiny_llama
from tests.bench.gpu.__main__ import main, measure_apart, run_parts
from tests.bench.gpu.floors import Floor
from tests.bench.gpu.kernels import results_of
from tests.bench.gpu.measure import main as measure
from tests.bench.gpu.packages import environment, missing, name_ourselves
from tests.bench.gpu.parts import Part, all_parts
from tests.bench.gpu.tables import table

Results = dict[str, dict[str, Any]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says without a card")
def test_without_a_card_one_line_and_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "never")]) == 2
    told = capsys.readouterr()
    assert told.out == "" and not list(tmp_path.iterdir())
    [line] = told.err.splitlines()
    assert line.startswith("bench-gpu: no card: PyTorch") and line.endswith("nothing measured")


def test_parts_with_a_result_are_not_measured_again(tmp_path: Path) -> None:
    """The second was cut off, the third is to come: a second run goes on with both."""
    parts = [Part(name, "steps") for name in ("one", "two", "three")]
    measured: list[str] = []

    def failing(part: Part, results: Results) -> dict[str, Any]:
        measured.append(part.name)
        if part.name == "three":
            raise KeyboardInterrupt
        return {"reason": "took too long"} if part.name == "two" else {"passed": 1}

    with pytest.raises(KeyboardInterrupt):
        run_parts(parts, tmp_path, failing)
    assert set(json.loads((tmp_path / "gpu.json").read_text())) == {"one", "two"}
    assert "two: took too long" in (tmp_path / "gpu.md").read_text()
    again: list[str] = []

    def fine(part: Part, results: Results) -> dict[str, Any]:
        assert "one" in results
        again.append(part.name)
        return {"passed": 1}

    assert run_parts(parts, tmp_path, fine) == 0
    assert measured == ["one", "two", "three"] and again == ["two", "three"]


def test_part_that_fails_fails_the_run(tmp_path: Path) -> None:
    parts = [Part("one", "steps")]
    assert run_parts(parts, tmp_path, lambda part, results: {"reason": "x"}) == 1


def test_part_without_its_packages_says_so() -> None:
    assert missing(("json", "no_such_package")) == ["no_such_package"]
    result = measure_apart(Part("x", "peer", {}, ("no_such_package",)), {})
    assert result == {"reason": "needs no_such_package"}


def test_server_finds_our_version_where_none_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a Python that has PyTorch and nothing of ours the server died of its own version."""

    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setenv("PYTHONPATH", "theirs")
    monkeypatch.setattr(metadata, "version", nothing)
    name_ourselves(tmp_path / "installed")
    ask = "from importlib import metadata; print(metadata.version('unisono'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", ask], env=environment(), capture_output=True, check=True
    )
    assert done.stdout.split() and "theirs" in environment()["PYTHONPATH"]


@pytest.mark.e2e
def test_part_that_cannot_be_measured_gives_its_reason() -> None:
    part = Part("x", "steps", {"model": "no such shape", "batches": [1], "prompts": [3]})
    assert "knows no shape" in measure_apart(part, {})["reason"]


def test_parts_have_names_of_their_own() -> None:
    names = [part.name for part in all_parts()]
    assert len(set(names)) == len(names) and names[0] == "device"


def test_floor_counts_each_weight_and_key_once() -> None:
    """Llama-2-7b: 13.2 GB of weights without the embedding, 512 KiB a token."""
    config = msgspec.structs.replace(tiny_config(), tie_word_embeddings=False)
    floor = Floor.of(config, 1_000_000, "bfloat16")
    assert floor.weight_bytes == 1_000_000 - 320 * 64 * 2
    assert floor.kv_token_bytes == 2 * 2 * 4 * 8 * 2
    assert floor.step_bytes(3, 100) == floor.weight_bytes + 300 * floor.kv_token_bytes
    share = floor.share(3, 100, 2e-3, 1e9)
    assert share == pytest.approx(floor.step_bytes(3, 100) / 2e6)
    assert Floor.of(tiny_config(), 1_000_000, "bfloat16").weight_bytes == 1_000_000
    in_8_bits = Floor.of(config, 1_000_000, "bfloat16", "fp8")
    assert in_8_bits.kv_token_bytes == 2 * 2 * 4 * (8 + 4), "each has a scale"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("UNISONO_CACHE", str(tmp_path / "cache"))
    return str(write_tiny_llama(tmp_path / "tiny", num_layers=1) / "config.json")


def test_steps_of_a_shape_are_timed_and_tabled(tiny: str) -> None:
    told: dict[str, Any] = {
        "model": tiny, "batches": [1, 2, 4], "prompts": [3, 40], "bytes_s": 1e9, "steps": 8,
        "device": "cpu", "dtype": "float32", "kv_cache_bytes": 150 << 10, "block_size": 4,
    }  # fmt: skip
    result = msgspec.to_builtins(measure("steps", told))
    rows = {(row["prompt"], row["batch"]): row for row in result["rows"]}
    assert set(rows) == {(p, b) for p in (3, 40) for b in (1, 2, 4)}
    assert rows[3, 1]["step_s"] > 0 and rows[3, 1]["greedy_s"] > 0 and rows[3, 1]["share"] > 0
    assert "blocks" in rows[40, 4]["reason"] and rows[40, 4]["step_s"] == 0
    text = table({"Llama-2-7b bf16": result, "server": {"reason": "needs uvloop"}})
    assert "| 3 in, 1 at once |" in text and "no room" in text
    assert text.endswith("- server: needs uvloop\n")


def test_table_sets_our_tokens_beside_theirs() -> None:
    row = {"prompt": 3, "batch": 4, "step_s": 0.01, "greedy_s": 0.009, "share": 0.8, "reason": ""}
    results: Results = {
        "device": {
            "name": "Card", "memory_bytes": 80 << 30, "torch": "2.11", "triton": "3.6",
            "bytes_s": 3e12, "flops_s": 7e14,
        },
        "kernels of linears": {
            "passed": 5, "failed": 1, "skipped": 0, "failures": ["a::b: off by 2"],
            "place": "on the card",
        },
        "M bf16": {"kernels": "x", "rows": [row]},
        "transformers": {
            "model": "M", "version": "5",
            "rows": [{"batch": 4, "prompt": 3, "generate_tokens_s": 90.0,
                      "continuous_tokens_s": 0.0, "reason": "continuous: no"}],
        },
        "server": {
            "model": "M",
            "report": {"levels": [{"median": {"concurrency": 4, "output_tokens_per_s": 390.0}}]},
        },
    }  # fmt: skip
    text = table(results)
    assert "Card, 80 GiB" in text and "5 passed, 1 failed" in text and "- a::b: off by 2" in text
    assert "| M bf16 | 10.00; 80%; 10% |" in text
    assert "| 4 | 400 | 390 | 90 | - |" in text


def test_report_of_the_kernels_tests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(
        '<testsuites><testsuite><testcase classname="m" name="a"/>'
        '<testcase classname="m" name="b"><failure message="off"/></testcase>'
        '<testcase classname="m" name="c"><skipped/></testcase></testsuite></testsuites>'
    )
    results = results_of(path)
    assert (results.passed, results.failed, results.skipped) == (1, 1, 1)
    assert results.failures == ["m::b: off"]
