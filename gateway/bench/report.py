"""Shows the figures of a run: a table for people, JSON for programs."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from gateway.bench.bench_settings import BenchSettings
from gateway.bench.load import LevelResult, median_of

# Heading, width, value: one row of the table for each level, 80 columns at most.
_COLUMNS: list[tuple[str, int, Callable[[LevelResult], str]]] = [
    ("streams", 7, lambda r: str(r.concurrency)),
    ("reqs", 6, lambda r: str(r.num_requests)),
    ("tokens/s", 9, lambda r: _number(r.output_tokens_per_s, 1)),
    ("req/s", 7, lambda r: _number(r.requests_per_s, 2)),
    ("p50", 8, lambda r: _number(r.ttft_p50_ms, 1)),
    ("p99", 8, lambda r: _number(r.ttft_p99_ms, 1)),
    ("p50", 7, lambda r: _number(r.itl_p50_ms, 1)),
    ("p99", 8, lambda r: _number(r.itl_p99_ms, 1)),
    ("ev/tok", 7, lambda r: _number(r.events_per_token, 2)),
    ("errors", 7, lambda r: str(r.num_errors)),
    ("cpu", 5, lambda r: _number(r.client_cpu_percent, 0) + "%"),
]
_TTFT_COLUMN, _ITL_COLUMN = 4, 6


class Report(msgspec.Struct, frozen=True):
    """One run: what was asked, and the figures of every round and their medians by level."""

    measured_at: str
    settings: BenchSettings
    medians: list[LevelResult]
    rounds: list[list[LevelResult]]

    @classmethod
    def of(cls, settings: BenchSettings, results: dict[int, list[LevelResult]]) -> "Report":
        """Condense the rounds of each level."""
        return cls(
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            settings=settings,
            medians=[median_of(rounds) for rounds in results.values()],
            rounds=list(results.values()),
        )

    @property
    def has_errors(self) -> bool:
        return any(result.num_errors for result in self.medians)

    def as_json(self) -> bytes:
        """Encode everything; what was not measured is null."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def as_table(self) -> str:
        """Render the medians and, below them, what makes them less than comparable."""
        lines = [_groups(), _row([heading for heading, _, _ in _COLUMNS])]
        lines += [_row([value(result) for _, _, value in _COLUMNS]) for result in self.medians]
        return "\n".join(lines + self._notes())

    def _notes(self) -> list[str]:
        notes = []
        asked = self.settings.prompt_tokens
        counted = {result.prompt_tokens_per_request for result in self.medians}
        if off := sorted(n for n in counted if not math.isnan(n) and n != asked):
            notes.append(f"the server counted {off[0]:.1f} prompt tokens instead of {asked}")
        if num_short := sum(result.num_short for result in self.medians):
            limit = self.settings.max_tokens
            notes.append(f"{num_short} streams ended before {limit} tokens")
        failed = [result for result in self.medians if result.num_errors]
        notes += [f"{r.num_errors} failed at {r.concurrency}: {r.first_error}" for r in failed]
        return [f"note: {note}" for note in notes]


def _groups() -> str:
    """The line above the headings that says what the percentiles are of."""
    starts = [sum(width for _, width, _ in _COLUMNS[:index]) for index in range(len(_COLUMNS))]
    line = " " * (starts[_TTFT_COLUMN] + 1) + "TTFT, ms"
    return line.ljust(starts[_ITL_COLUMN] + 1) + "ITL, ms"


def _row(cells: Sequence[str]) -> str:
    widths = (width for _, width, _ in _COLUMNS)
    return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
