"""The file of a sweep is gone on with only where its figures may stand beside new ones."""

import math
from pathlib import Path

import msgspec
import pytest

from gateway.bench.death import ServerDeath
from gateway.bench.sweep.results import (
    Layout,
    Load,
    Point,
    Results,
    ResultsError,
    Run,
    read_results,
    write_results,
)
from tests.gateway.bench.factories import CONDITIONS, level

LOAD = Load(3, 256, 1.0, 0, {"top_k": 20}, {"kv_cache_bytes": "2GB"})
MACHINE = CONDITIONS.machine


def results() -> Results:
    point = Point(4, [level(ttft_p50_ms=math.nan)], 7)
    dead = Point(16, death=ServerDeath("memory", "memory ran out", True))
    return Results(LOAD, [Run(Layout(tp=2), CONDITIONS, points=[point, dead])])


def test_file_holds_everything_even_what_was_not_measured(tmp_path: Path) -> None:
    write_results(tmp_path / "r", results())
    [run] = read_results(tmp_path / "r", LOAD, MACHINE).runs
    assert run.layout == Layout(tp=2)
    assert math.isnan(run.points[0].rounds[0].ttft_p50_ms)
    assert run.points[1].death == ServerDeath("memory", "memory ran out", True)
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_no_file_is_an_empty_result(tmp_path: Path) -> None:
    assert read_results(tmp_path / "r", LOAD, MACHINE) == Results(LOAD)


@pytest.mark.parametrize(
    ("load", "machine", "words"),
    [
        (msgspec.structs.replace(LOAD, max_tokens=8), MACHINE, "max_tokens 256, not 8; --results"),
        (msgspec.structs.replace(LOAD, extra={}), MACHINE, r"extra {'top_k': 20}, not {}"),
        (LOAD, "another", "was measured on 2 cores of X, not on another; --results FILE"),
    ],
)
def test_other_loads_and_machines_are_refused(
    tmp_path: Path, load: Load, machine: str, words: str
) -> None:
    write_results(tmp_path / "r", results())
    with pytest.raises(ResultsError, match=words):
        read_results(tmp_path / "r", load, machine)


@pytest.mark.parametrize("text", ["{", "[]", '{"load": {}}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text)
    with pytest.raises(ResultsError, match="is no file of a sweep"):
        read_results(tmp_path / "r", LOAD, MACHINE)


def test_points_stand_in_the_order_of_their_levels() -> None:
    run = Run(Layout(), CONDITIONS)
    for concurrency in (16, 1, 4, 1):
        run.point(concurrency)
    assert [point.concurrency for point in run.points] == [1, 4, 16]
