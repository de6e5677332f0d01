"""A sweep measures what can be measured, says why the rest is missing, and goes on from its file.

Servers are figures of a script: which settings they start with, and which levels they survive.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from gateway.bench.death import ServerDeath
from gateway.bench.launched_server import ServerDied
from gateway.bench.load import LevelResult
from gateway.bench.streamed_request import BenchError
from gateway.bench.sweep import runner
from gateway.bench.sweep.results import Layout, Load, Results, decoded
from gateway.bench.watch import Bars
from tests.gateway.bench.factories import level

LOAD = Load(prompt_tokens=3, max_tokens=7, temperature=0.0, requests=0)
OUT_OF_MEMORY = ServerDeath("not enough memory: 9 GB", "not enough memory: 9 GB\nfree some", True)
CRASH = ServerDeath("group 0 died: boom", "group 0 died: boom", False)


@dataclass
class World:
    """refuses: why a server with such settings does not start. dies: why one dies of a level.

    starts: the settings of each start. measured: (tp, streams) of each round.
    """

    refuses: Callable[[Mapping[str, object]], ServerDeath | None] = lambda settings: None
    dies: Callable[[int], ServerDeath | None] = lambda streams: None
    fails: Callable[[int], int] = lambda streams: 0
    kv_tokens: int = 10_000
    is_mute: bool = False
    starts: list[dict[str, object]] = field(default_factory=list)
    measured: list[tuple[object, int]] = field(default_factory=list)

    def launch(self, settings: Mapping[str, object], *, start_seconds: float) -> Any:
        self.starts.append(dict(settings))
        return FakeServer(self, dict(settings))


@dataclass
class FakeServer:
    world: World
    settings: dict[str, object]
    death: ServerDeath | None = None
    url: str = "http://127.0.0.1:1"
    model: str = "fake"
    compute: str = "cpu, none"
    ready_s: float = 1.5
    memory_bytes: int = 5_000_000
    command: tuple[str, ...] = ("unisono", "serve")

    def __enter__(self) -> "FakeServer":
        if refusal := self.world.refuses(self.settings):
            raise ServerDied(refusal)
        current.append(self)
        return self

    def __exit__(self, *failure: object) -> None:
        current.clear()

    @property
    def kv_tokens(self) -> int:
        return self.world.kv_tokens

    def wait_for_fault(self, seconds: float) -> None:
        pass

    def check(self) -> None:
        if self.death:
            raise ServerDied(self.death)


current: list[FakeServer] = []


@pytest.fixture(autouse=True)
def no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    async def calibrate(target: object, workload: object) -> None:
        if current[0].world.is_mute:
            raise BenchError("it refused a first request")

    async def warm_up(*arguments: object) -> None:
        pass

    async def run_level(*arguments: Any, num_requests: int, watch: object) -> LevelResult:
        streams, server = arguments[2], current[0]
        server.world.measured.append((server.settings["tp"], streams))
        server.death = server.world.dies(streams)
        return level(
            concurrency=streams,
            num_requests=4,
            num_errors=4 if server.death else server.world.fails(streams),
            first_error="cut off",
        )

    monkeypatch.setattr(runner, "calibrate", calibrate)
    monkeypatch.setattr(runner, "warm_up", warm_up)
    monkeypatch.setattr(runner, "run_level", run_level)


def swept(
    world: World,
    path: Path,
    *layouts: Layout,
    levels: tuple[int, ...] = (1, 4, 16),
    seen: io.StringIO | None = None,
) -> Results:
    results = decoded(path.read_bytes()) if path.exists() else Results(LOAD)
    with Bars("sweep", 1, Console(file=seen or io.StringIO())) as bars:
        sweep = runner.Sweep(results, path, levels, 2, 60, 60, bars, world.launch)
        sweep.run(layouts or (Layout(),))
    # What is kept is what there is.
    kept = decoded(path.read_bytes())
    assert msgspec.json.encode(kept) == msgspec.json.encode(results)
    return results


def reasons(results: Results, number: int = 0) -> dict[int, str]:
    points = results.runs[number].points
    return {point.concurrency: point.death.reason if point.death else "" for point in points}


def test_every_layout_has_a_server_and_levels_take_turns(tmp_path: Path) -> None:
    world = World()
    results = swept(world, tmp_path / "r", Layout(tp=1), Layout(tp=2, dtype="float32"))
    assert world.starts == [
        {"max_num_seqs": 16, "tp": 1, "dp": 1},
        {"max_num_seqs": 16, "tp": 2, "dp": 1, "dtype": "float32"},
    ]
    assert world.measured[:6] == [(1, 1), (1, 4), (1, 16)] * 2
    run = results.runs[1]
    assert (run.model_name, run.compute, run.ready_s) == ("fake", "cpu, none", 1.5)
    assert [len(point.rounds) for point in run.points] == [2, 2, 2]
    assert run.points[0].memory_bytes == 5_000_000


def test_layout_is_called_as_in_the_table(tmp_path: Path) -> None:
    seen = io.StringIO()
    swept(World(), tmp_path / "r", Layout(tp=2, dp=1), levels=(4,), seen=seen)
    assert "TP 2 x DP 1, 4 streams: " in seen.getvalue()


def test_largest_batch_that_does_not_fit_is_missing_alone(
    tmp_path: Path,
) -> None:
    def refuses(settings: Mapping[str, object]) -> ServerDeath | None:
        return OUT_OF_MEMORY if settings["max_num_seqs"] == 16 else None

    world = World(refuses)
    results = swept(world, tmp_path / "r")
    assert reasons(results) == {1: "", 4: "", 16: "not enough memory: 9 GB"}
    assert [start["max_num_seqs"] for start in world.starts] == [16, 1, 4]


def test_model_that_fits_in_no_way_is_tried_twice(tmp_path: Path) -> None:
    def refuses(settings: Mapping[str, object]) -> ServerDeath | None:
        return OUT_OF_MEMORY if settings["tp"] == 1 else None

    world = World(refuses)
    results = swept(world, tmp_path / "r", Layout(tp=1), Layout(tp=2))
    assert set(reasons(results).values()) == {"not enough memory: 9 GB"}
    assert set(reasons(results, 1).values()) == {""}
    assert [start["tp"] for start in world.starts] == [1, 1, 2]


def test_server_that_does_not_start_is_tried_once(tmp_path: Path) -> None:
    world = World(lambda settings: CRASH)
    assert set(reasons(swept(world, tmp_path / "r")).values()) == {"group 0 died: boom"}
    assert len(world.starts) == 1


def test_levels_above_one_that_takes_all_memory_are_not_tried(tmp_path: Path) -> None:
    world = World(dies=lambda streams: OUT_OF_MEMORY if streams == 4 else None)
    results = swept(world, tmp_path / "r")
    told = {1: "", 4: "not enough memory: 9 GB", 16: "not tried: memory ran out at 4 streams"}
    assert reasons(results) == told
    assert [start["max_num_seqs"] for start in world.starts] == [16, 1]
    assert world.measured == [(1, 1), (1, 4), (1, 1)]


def test_crash_at_a_level_costs_that_level_alone(tmp_path: Path) -> None:
    world = World(dies=lambda streams: CRASH if streams == 4 else None)
    results = swept(world, tmp_path / "r")
    assert reasons(results) == {1: "", 4: "group 0 died: boom", 16: ""}
    assert world.measured == [(1, 1), (1, 4), (1, 16), (1, 1), (1, 16)]


def test_server_that_refuses_the_load_is_missing(tmp_path: Path) -> None:
    results = swept(World(is_mute=True), tmp_path / "r")
    assert set(reasons(results).values()) == {"it refused a first request"}


def test_level_without_one_answer_is_missing(tmp_path: Path) -> None:
    world = World(fails=lambda streams: {4: 4, 16: 1}.get(streams, 0))
    results = swept(world, tmp_path / "r")
    assert reasons(results) == {1: "", 4: "cut off", 16: ""}
    assert results.runs[0].point(16).notes == ["2 requests failed: cut off"]


def test_batch_that_the_cache_does_not_hold_is_noted(tmp_path: Path) -> None:
    results = swept(World(kv_tokens=50), tmp_path / "r", levels=(5, 6))
    assert results.runs[0].point(5).notes == []
    assert results.runs[0].point(6).notes == ["the KV cache holds 5 at a time, the others waited"]


def test_sweep_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "r"

    def interrupted(streams: int) -> ServerDeath | None:
        if len(world.measured) == 5:
            raise KeyboardInterrupt
        return None

    world = World(dies=interrupted)
    with pytest.raises(KeyboardInterrupt):
        swept(world, path)
    assert [len(point.rounds) for point in decoded(path.read_bytes()).runs[0].points] == [2, 1, 1]
    world = World()
    swept(world, path)
    assert world.measured == [(1, 4), (1, 16)]
    swept(world, path, levels=(1, 4, 16, 64))
    assert world.measured[2:] == [(1, 64)] * 2
    assert len(world.starts) == 2


def test_missing_points_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "r"
    swept(World(lambda settings: CRASH), path)
    world = World()
    results = swept(world, path)
    assert world.starts == []
    runner.forget_missing(results)
    assert results.runs[0].points == []
