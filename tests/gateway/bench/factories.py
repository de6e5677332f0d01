"""Results of measurements that nobody made."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.bench.bench_settings import BenchSettings
from gateway.bench.client import Answer
from gateway.bench.load import LevelResult, figures
from gateway.bench.machine import Conditions
from gateway.bench.report import Level, Report

CONDITIONS = Conditions("2026-11-28", "2 cores of X", "avx2", {"unisono": "1"}, "abc1234")


def level(**changes: Any) -> LevelResult:
    """The figures of one round, with some of them changed."""
    result = figures([Answer(9.9, [10.0, 10.5], 128, 128, ended_s=10.5)], 4, wall_s=1.0, cpu_s=0.1)
    return msgspec.structs.replace(result, **({"events_per_token": 1.0} | changes))


def report(*levels: Sequence[LevelResult], notes: Sequence[str] = (), **settings: Any) -> Report:
    """A run of levels, each the results of its rounds."""
    asked = BenchSettings(model="fake", **settings)
    return Report(CONDITIONS, asked, [Level.of(rounds) for rounds in levels], list(notes))
