"""Shows the figures of a run: a table for people, JSON for programs.

gateway/bench/report_page.py makes a page of the same.
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from gateway.bench.bench_settings import BenchSettings
from gateway.bench.load import LevelResult, median_of
from gateway.bench.machine import Conditions

# A client that takes more of a core is measured along with the server.
BUSY_CLIENT_PERCENT = 70.0


class Level(msgspec.Struct, frozen=True):
    """One level: the medians of its rounds, and the rounds."""

    median: LevelResult
    rounds: list[LevelResult]

    @classmethod
    def of(cls, rounds: Sequence[LevelResult]) -> "Level":
        """Condense the rounds."""
        return cls(median_of(rounds), list(rounds))

    @property
    def name(self) -> str:
        """Streams at once, or requests a second."""
        rate = self.median.offered_per_s
        return f"{rate:.3g}" if rate else str(self.median.concurrency)

    @property
    def position(self) -> float:
        """The same as a number, for an axis."""
        return self.median.offered_per_s or float(self.median.concurrency)

    def span(self, field: str) -> tuple[float, float]:
        """Return the least and the most of a figure over the rounds."""
        values = [getattr(result, field) for result in self.rounds]
        known = [value for value in values if not math.isnan(value)]
        return (min(known), max(known)) if known else (math.nan, math.nan)

    @property
    def spread_percent(self) -> float:
        """How far the rounds' tokens/s lie apart, of their median."""
        low, high = self.span("output_tokens_per_s")
        middle = self.median.output_tokens_per_s
        return 100 * (high - low) / middle if middle else math.nan


class Report(msgspec.Struct, frozen=True):
    """One run: under which conditions, what was asked, and the figures by level.

    notes: what else a reader must know, in sentences. is_cut_short: Ctrl-C came before all rounds
    were done.
    """

    conditions: Conditions
    settings: BenchSettings
    levels: list[Level]
    notes: list[str] = []
    is_cut_short: bool = False

    @property
    def has_errors(self) -> bool:
        return any(level.median.num_errors for level in self.levels)

    @property
    def has_rates(self) -> bool:
        """Whether requests came at a rate, so that levels are known by it."""
        return any(level.median.offered_per_s for level in self.levels)

    @property
    def has_limits(self) -> bool:
        return bool(self.settings.ttft_limit_ms or self.settings.itl_limit_ms)

    def as_json(self) -> bytes:
        """Encode everything; what was not measured is null."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def as_table(self) -> str:
        """Render the medians and, below them, what makes them less than comparable."""
        columns = _columns(self)
        lines = [_groups(columns), _row([c.heading for c in columns], columns)]
        lines += [_row([c.value(level) for c in columns], columns) for level in self.levels]
        facts = [f"{name}: {value}" for name, value in self.conditions.lines()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.all_notes()), "", *facts])

    def all_notes(self) -> list[str]:
        """Say what a reader must know of these figures."""
        return [*self.notes, *_notes(self)]


class _Column(msgspec.Struct, frozen=True):
    """One column of the table: 80 of text at most in all. group: what stands above its heading."""

    heading: str
    width: int
    value: Callable[[Level], str]
    group: str = ""


def _columns(report: Report) -> list[_Column]:
    first = "req/s" if report.has_rates else "streams"
    columns = [
        _Column(first, 7, lambda level: level.name),
        _Column("reqs", 6, lambda level: str(level.median.num_requests)),
        _Column("tokens/s", 9, lambda level: number(level.median.output_tokens_per_s, 1)),
        _Column("spread", 7, _spread),
        _Column("done/s", 7, lambda level: number(level.median.requests_per_s, 2)),
        _Column("p50", 8, lambda level: number(level.median.ttft_p50_ms, 1), "TTFT, ms"),
        _Column("p99", 9, lambda level: number(level.median.ttft_p99_ms, 1)),
        _Column("p50", 7, lambda level: number(level.median.itl_p50_ms, 1), "ITL, ms"),
        _Column("p99", 8, lambda level: number(level.median.itl_p99_ms, 1)),
    ]
    if report.has_limits:
        columns.append(_Column("good", 5, lambda level: _percent(level.median.good_share)))
    return [*columns, _Column("failed", 7, _errors)]


def _errors(level: Level) -> str:
    return str(level.median.num_errors)


def _spread(level: Level) -> str:
    return "-" if len(level.rounds) < 2 else number(level.spread_percent, 0) + "%"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f}%"


def _groups(columns: Sequence[_Column]) -> str:
    """The line above the headings that says what the percentiles are of."""
    line, start = "", 0
    for column in columns:
        if column.group:
            line = line.ljust(start + 1) + column.group
        start += column.width
    return line


def _row(cells: Sequence[str], columns: Sequence[_Column]) -> str:
    widths = [column.width for column in columns]
    return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def number(value: float, digits: int) -> str:
    """Write a figure, "-" for one that was not measured."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _notes(report: Report) -> list[str]:
    notes = []
    settings, medians = report.settings, [level.median for level in report.levels]
    counted = {result.prompt_tokens_per_request for result in medians}
    off = sorted(n for n in counted if abs(n - settings.prompt_tokens) >= 0.5)
    if off and not settings.trace:
        notes.append(
            f"the server counted {off[0]:.1f} prompt tokens instead of {settings.prompt_tokens}"
        )
    if num_short := sum(result.num_short for result in medians):
        length = "their length" if settings.trace else f"{settings.max_tokens} tokens"
        notes.append(f"{num_short} streams ended before {length}")
    events = [result.events_per_token for result in medians]
    if 0.0 in events:
        notes.append("no event carried text: there is nothing that latencies could be of")
    if several := [each for each in events if 0 < each < 0.95]:
        notes.append(
            f"an event carried {1 / min(several):.1f} tokens: ITL is the time between events"
        )
    busiest = max((result.client_cpu_percent for result in medians), default=0.0)
    if busiest > BUSY_CLIENT_PERCENT:
        notes.append(f"the client took {busiest:.0f} % of a core: it may be what is measured")
    failed = [level for level in report.levels if level.median.num_errors]
    notes += [
        f"{level.median.num_errors} failed at {level.name}: {level.median.first_error}"
        for level in failed
    ]
    return notes
