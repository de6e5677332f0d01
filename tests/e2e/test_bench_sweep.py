"""`unisono bench sweep` with real servers of a tiny model."""

from pathlib import Path

import pytest

from gateway.bench.sweep.results import decoded
from gateway.cli import main


@pytest.mark.e2e
def test_sweep_starts_measures_and_tells_what_is_missing(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two layouts of a tiny model, and of one that is not there."""
    file, html = tmp_path / "sweep.json", tmp_path / "sweep.html"
    command = ["bench", "sweep", "--model", f"{tiny_model},{tmp_path / 'none'}", "--dp", "1,2"]
    command += ["--concurrency", "1,2", "--prompt-tokens", "8", "--max-tokens", "8"]
    command += ["--rounds", "1", "--serve", '{"threads": 1, "kv_cache_bytes": "64MiB"}']
    command += ["--results", str(file), "--html", str(html)]
    assert main(command) == 0
    results = decoded(file.read_bytes())
    assert [len(run.points) for run in results.runs] == [2, 2, 2, 2]
    for run in results.runs[:2]:
        assert all(point.level is not None for point in run.points)
        assert all(point.memory_bytes > 50_000_000 for point in run.points)
        assert "DP" in run.compute and run.ready_s > 0
    assert all(point.death is not None for run in results.runs[2:] for point in run.points)
    shown = capsys.readouterr()
    assert "missing: there is no file or directory" in shown.out
    assert html.read_text().count("<svg") >= 4
    before = file.read_bytes()
    assert main(command) == 0, "nothing is left to measure"
    assert file.read_bytes() == before
