"""Puts measurements into Markdown: medians over rounds, what ours are of the better peer's, how.

Servers are compared under the same conditions only (machine, model, level): each have tables of
their own. Knows no servers and takes no time.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.bench.peers.loads import LOADS
from tests.bench.peers.measurement import Conditions, Measurement

OURS = "Unisono"


@dataclass(frozen=True, slots=True)
class Figure:
    """Output tokens/s, and the median time to the first token."""

    tokens_per_s: float
    ttft_ms: float


def render(measurements: Sequence[Measurement]) -> str:
    """Return all tables and what one must know to measure them again."""
    if not measurements:
        return "nothing has been measured"
    return "\n\n".join(
        _section(conditions, [each for each in measurements if each.conditions == conditions])
        for conditions in dict.fromkeys(each.conditions for each in measurements)
    )


def _section(conditions: Conditions, found: Sequence[Measurement]) -> str:
    """The tables of one set of conditions."""
    level = conditions.level or "the best it has"
    heading = f"**{conditions.model} on {conditions.machine}, instructions: {level}**"
    loads = [_load_table(load, found) for load in LOADS if _of(found, load=load)]
    return "\n\n".join([heading, *loads, _process_table(found), _provenance(found)])


def _load_table(load: str, measurements: Sequence[Measurement]) -> str:
    found = _of(measurements, load=load)
    counts = _counts(found)
    own = {name: _figures(_of(found, server=name)) for name in _servers(found)}
    rows = [(name, [_cell(figures.get(n)) for n in counts]) for name, figures in own.items()]
    ours = own.get(OURS, {})
    peers = {name: figures for name, figures in own.items() if name != OURS}
    if ours and peers:
        cells = [_ratio(n, ours, _at(n, peers)) for n in counts]
        rows.append(("**ours / better peer**", cells))
    title = f"({load}) {LOADS[load].title}; output tokens/s, TTFT p50 in ms, for streams at once:"
    return f"{title}\n\n{_markdown(['', *map(str, counts)], rows)}"


def _figures(found: Sequence[Measurement]) -> dict[int, Figure]:
    """Medians over the rounds, by the number of streams."""
    by_count = {n: [each for each in found if each.streams == n] for n in _counts(found)}
    return {
        n: Figure(
            statistics.median(each.tokens_per_s for each in rounds),
            statistics.median(each.ttft_p50_ms for each in rounds),
        )
        for n, rounds in by_count.items()
    }


def _at(count: int, servers: dict[str, dict[int, Figure]]) -> dict[str, float]:
    """Tokens/s of each server with so many streams."""
    return {
        name: figures[count].tokens_per_s for name, figures in servers.items() if count in figures
    }


def _ratio(count: int, ours: dict[int, Figure], peers: dict[str, float]) -> str:
    if count not in ours or not peers:
        return "-"
    best = max(peers, key=lambda name: peers[name])
    return f"{ours[count].tokens_per_s / peers[best]:.2f} of {best}"


def _process_table(measurements: Sequence[Measurement]) -> str:
    rows = []
    for name in _servers(measurements):
        found = _of(measurements, server=name)
        cells = [
            f"{statistics.median(each.ready_s for each in found):.1f}",
            f"{statistics.median(each.idle_cpu_percent for each in found):.1f}",
            f"{max(each.pss_mb for each in found):.0f}",
            f"{max(each.kv_mb for each in found):.0f}",
        ]
        rows.append((name, cells))
    headings = ["", "ready after s", "idle CPU, %", "PSS without KV, MB", "KV touched, MB"]
    return _markdown(headings, rows)


def _provenance(measurements: Sequence[Measurement]) -> str:
    dates = sorted({each.measured_at[:10] for each in measurements})
    lines = [f"Measured {' and '.join(dates)}.", ""]
    for name in _servers(measurements):
        found = _of(measurements, server=name)
        versions = ", ".join(dict.fromkeys(each.version for each in found))
        rounds = ", ".join(_rounds(load, _of(found, load=load)) for load in LOADS)
        lines.append(f"- {name} {versions}, rounds {rounds}: `{found[-1].command}`")
        if num_short := sum(each.num_short for each in found):
            lines.append(f"  ({num_short} streams ended too early)")
    return "\n".join(lines)


def _of(
    measurements: Sequence[Measurement], *, server: str = "", load: str = ""
) -> list[Measurement]:
    return [
        each for each in measurements if server in ("", each.server) and load in ("", each.load)
    ]


def _counts(measurements: Sequence[Measurement]) -> list[int]:
    return sorted({each.streams for each in measurements})


def _rounds(load: str, found: Sequence[Measurement]) -> str:
    """How often each number of streams was measured at least."""
    rounds = [sum(each.streams == n for each in found) for n in _counts(found)]
    return f"{load} {min(rounds, default=0)}"


def _servers(measurements: Sequence[Measurement]) -> list[str]:
    """Names of all that were measured, ours first."""
    return sorted({each.server for each in measurements}, key=lambda name: (name != OURS, name))


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.tokens_per_s:.0f}; {figure.ttft_ms:.0f}"


def _markdown(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    lines = [headings, ["---"] * len(headings), *([name, *cells] for name, cells in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
