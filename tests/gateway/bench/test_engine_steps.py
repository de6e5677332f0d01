"""`unisono bench engine`: the process it starts, the table, the page, and what it refuses."""

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from backend.settings import EngineSettings
from backend.wire.step_times import FromMeasurement, MeasuredEngine, NotMeasured, StepTimes
from gateway.bench.engine_page import engine_page
from gateway.bench.engine_steps import SAMPLINGS, EngineReport, as_table, measure
from gateway.bench.streamed_request import BenchError
from gateway.commands import bench_engine
from gateway.options import SettingsError
from tests.gateway.bench.factories import CONDITIONS

ENGINE = MeasuredEngine("llama", "cpu", "bfloat16", "avx2", 2, 97_000_000, 10**9, 32)
TOLD: list[FromMeasurement] = [
    ENGINE,
    StepTimes("decode", 1, 128, [0.010, 0.012, 0.020]),
    StepTimes("decode", 4, 128, [0.02]),
    NotMeasured("decode", 64, 9000, "no room"),
    StepTimes("prompt", 1, 512, [0.5, 0.25, 0.5]),
]


def measured(program: str, told: list[FromMeasurement]) -> EngineReport:
    command = [sys.executable, "-c", program]
    shapes = [(1, 128), (4, 128)], [(1, 512)]
    return measure(EngineSettings(model="m"), "greedy", *shapes, 8, told.append, command)


def test_results_come_one_by_one_from_the_process() -> None:
    lines = [msgspec.json.encode(message).decode() for message in TOLD]
    heard: list[FromMeasurement] = []
    report = measured(f"print({chr(10).join(lines)!r})", heard)
    assert heard == TOLD
    assert report.engine == ENGINE
    assert [times.batch for times in report.times] == [1, 4, 1]
    assert [each.reason for each in report.missing] == ["no room"]


def test_process_gets_the_engine_the_shapes_and_the_threads() -> None:
    program = "import sys, os; sys.exit(str(sys.argv[1:]) + os.environ['OMP_NUM_THREADS'])"
    with pytest.raises(BenchError, match="was not measured"):
        measured(program, [])


@pytest.mark.parametrize("program", ["", "raise SystemExit(1)"])
def test_process_that_fails_is_told(program: str) -> None:
    with pytest.raises(BenchError, match="its process says why above"):
        measured(program, [])


def report() -> EngineReport:
    times = [each for each in TOLD if isinstance(each, StepTimes)]
    missing = [each for each in TOLD if isinstance(each, NotMeasured)]
    return EngineReport(CONDITIONS, ENGINE, "m.gguf", "greedy", times, missing)


def test_table_has_medians_spread_and_rates() -> None:
    lines = as_table(report()).splitlines()
    assert lines[1].split() == ["1", "128", "12.00", "11.00", "to", "16.00", "83.3"]
    assert lines[2].split()[-1] == "200.0"
    assert lines[4].split() == ["1", "512", "500.00", "375.00", "to", "500.00", "1024.0"]
    assert "missing: decode of 64 x 9,000: no room" in lines
    assert "computes on: cpu, avx2, bfloat16, 2 threads" in lines
    assert "machine: 2 cores of X" in lines
    assert max(map(len, lines)) <= 80


def test_page_draws_steps_and_prompts() -> None:
    page = engine_page(report())
    assert page.count("<svg") == 3
    assert "missing: decode of 64 x 9,000: no room" in page
    assert "2 cores of X" in page


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"engine": "[]"}, "--engine must be a JSON object"),
        ({"engine": '{"tp": 2}'}, "--engine: tp means nothing to an engine that is alone"),
        ({"engine": '{"kernel": "avx2"}'}, "--engine: kernel is not a setting; did you mean"),
        ({"engine": '{"kernels": "mmx"}'}, "--engine: kernels must be one of"),
        ({"batch": "0"}, "--batch must be a list"),
        ({"json": "/no/such/file"}, "there is no such directory"),
    ],
)
def test_what_no_engine_would_take_is_refused(flags: Mapping[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        bench_engine.load(flags)


def test_samplings_are_as_the_article_and_the_engine_have_them() -> None:
    takeoff = SAMPLINGS["takeoff"]
    assert (takeoff.top_p, takeoff.top_k, takeoff.no_repeat_ngram_size) == (0.9, 20, 5)
    assert SAMPLINGS["greedy"].temperature == 0
