"""What a sweep has found out so far, and the file that keeps it: written after each measurement.

A sweep that was cut off, or is given more axes, goes on from its file. Knows no servers.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.bench.death import ServerDeath
from gateway.bench.load import LevelResult
from gateway.bench.machine import Conditions
from gateway.bench.report import Level

_FIGURES = frozenset(LevelResult.__struct_fields__)


class ResultsError(ValueError):
    """A file of results cannot be gone on with. The message says why, and what would help."""


class Layout(msgspec.Struct, frozen=True):
    """One server of the grid. model: as it was asked for, "" for the default one."""

    model: str = ""
    dtype: str = "auto"
    quantization: str = "auto"
    tp: int = 1
    dp: int = 1

    def settings(self) -> dict[str, object]:
        """What `unisono serve` is told of it, beyond its defaults."""
        fields = msgspec.structs.asdict(self)
        return {name: value for name, value in fields.items() if value not in ("", "auto")}


class Load(msgspec.Struct, frozen=True):
    """What every server of a file was asked, and told: figures under others are no part of it.

    requests: a level; 0 for 2 x streams. serve: settings beside the layout's.
    """

    prompt_tokens: int
    max_tokens: int
    temperature: float
    requests: int
    extra: dict[str, object] = {}
    serve: dict[str, object] = {}


class Point(msgspec.Struct):
    """A layout at a level. memory_bytes: of all processes after it, 0 if not measured.

    death: why there is no figure, once that is so. notes: what a reader must know.
    """

    concurrency: int
    rounds: list[LevelResult] = []
    memory_bytes: int = 0
    death: ServerDeath | None = None
    notes: list[str] = []

    @property
    def level(self) -> Level | None:
        """Its rounds in one; None where there are none."""
        return Level.of(self.rounds) if self.rounds and self.death is None else None


class Run(msgspec.Struct):
    """A layout with its points, by streams at once. compute, command, ready_s: of its server."""

    layout: Layout
    conditions: Conditions
    command: str = ""
    model_name: str = ""
    compute: str = ""
    ready_s: float = 0.0
    points: list[Point] = []

    def point(self, concurrency: int) -> Point:
        """Return the point of a level, a new one if there is none."""
        for point in self.points:
            if point.concurrency == concurrency:
                return point
        self.points.append(Point(concurrency))
        self.points.sort(key=lambda point: point.concurrency)
        return self.point(concurrency)


class Results(msgspec.Struct):
    """A whole file."""

    load: Load
    runs: list[Run] = []

    def run(self, layout: Layout) -> Run:
        """Return the run of a layout, a new one if there is none."""
        for run in self.runs:
            if run.layout == layout:
                return run
        self.runs.append(Run(layout, Conditions.now()))
        return self.runs[-1]

    @property
    def missing(self) -> Iterator[tuple[Run, Point, ServerDeath]]:
        """Points without figures, and why."""
        for run in self.runs:
            for point in run.points:
                if point.death is not None:
                    yield run, point, point.death


def read_results(path: Path, load: Load, machine: str) -> Results:
    """Return what a file has; an empty result where there is none.

    Raises ResultsError for a file of another load or machine, or of something else.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Results(load)
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}") from error
    try:
        results = decoded(text)
    except msgspec.DecodeError as error:
        raise ResultsError(f"{path} is no file of a sweep: {error}") from error
    for name in Load.__struct_fields__:
        before, now = getattr(results.load, name), getattr(load, name)
        if before != now:
            raise ResultsError(
                f"{path} was measured with {name} {before}, not {now}; "
                "--results FILE names another file"
            )
    others = {run.conditions.machine for run in results.runs} - {machine}
    if others:
        raise ResultsError(
            f"{path} was measured on {min(others)}, not on {machine}; "
            "--results FILE names another file"
        )
    return results


def decoded(text: bytes) -> Results:
    """Read results as they are written. Raises DecodeError for what is none."""
    return msgspec.convert(_with_nan(msgspec.json.decode(text)), Results)


def _with_nan(document: Any) -> Any:
    """Put NaN where a figure is null, as JSON has what was not measured."""
    if isinstance(document, list):
        return [_with_nan(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        name: math.nan if value is None and name in _FIGURES else _with_nan(value)
        for name, value in document.items()
    }


def write_results(path: Path, results: Results) -> None:
    """Replace the file at once: whoever reads it finds the old or the new one."""
    text = msgspec.json.format(msgspec.json.encode(results)) + b"\n"
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(text)
    os.replace(partial, path)
