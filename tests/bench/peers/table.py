"""Puts measurements into Markdown: medians over rounds, what ours are of the better peer's, how.

Servers are compared on one machine in one run only: nothing recorded elsewhere is in a table. Knows
no servers and takes no time.
"""

import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers.loads import LOADS
from tests.bench.peers.measurement import Measurement

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
    parts = [_load_table(load, measurements) for load in LOADS if _of(measurements, load=load)]
    return "\n\n".join([*parts, _process_table(measurements), _conditions(measurements)])


def _load_table(load: str, measurements: Sequence[Measurement]) -> str:
    found = _of(measurements, load=load)
    levels = _levels(found)
    own = {name: _figures(_of(found, server=name)) for name in _servers(found)}
    rows = [(name, [_cell(figures.get(n)) for n in levels]) for name, figures in own.items()]
    ours = own.get(OURS, {})
    peers = {name: figures for name, figures in own.items() if name != OURS}
    if ours and peers:
        cells = [_ratio(n, ours, _at(n, peers)) for n in levels]
        rows.append(("**ours / better peer**", cells))
    title = f"({load}) {LOADS[load].title}; output tokens/s, TTFT p50 in ms, for streams at once:"
    return f"{title}\n\n{_markdown(['', *map(str, levels)], rows)}"


def _figures(found: Sequence[Measurement]) -> dict[int, Figure]:
    """Medians over the rounds, by the number of streams."""
    levels = {level: [each for each in found if each.streams == level] for level in _levels(found)}
    return {
        level: Figure(
            statistics.median(each.tokens_per_s for each in rounds),
            statistics.median(each.ttft_p50_ms for each in rounds),
        )
        for level, rounds in levels.items()
    }


def _at(level: int, servers: dict[str, dict[int, Figure]]) -> dict[str, float]:
    """Tokens/s of each server at one level."""
    return {
        name: figures[level].tokens_per_s for name, figures in servers.items() if level in figures
    }


def _ratio(level: int, ours: dict[int, Figure], peers: dict[str, float]) -> str:
    if level not in ours or not peers:
        return "-"
    best = max(peers, key=lambda name: peers[name])
    return f"{ours[level].tokens_per_s / peers[best]:.2f} of {best}"


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


def _conditions(measurements: Sequence[Measurement]) -> str:
    dates = sorted({each.measured_at[:10] for each in measurements})
    lines = [
        f"Measured {' and '.join(dates)} on {_machine()}.",
        "",
    ]
    for name in _servers(measurements):
        found = _of(measurements, server=name)
        versions = ", ".join(dict.fromkeys(each.version for each in found))
        rounds = ", ".join(_rounds(load, _of(found, load=load)) for load in LOADS)
        lines.append(f"- {name} {versions}, rounds {rounds}: `{found[-1].command}`")
        if num_short := sum(each.num_short for each in found):
            lines.append(f"  ({num_short} streams ended too early)")
    return "\n".join(lines)


def _machine() -> str:
    info = dict(
        (key.strip(), value.strip())
        for key, _, value in (
            line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()
        )
    )
    flags = info.get("flags", "").split()
    units = [flag for flag in ("avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores of {info.get('model name', 'an unknown CPU')} ({', '.join(units)})"


def _of(
    measurements: Sequence[Measurement], *, server: str = "", load: str = ""
) -> list[Measurement]:
    return [
        each for each in measurements if server in ("", each.server) and load in ("", each.load)
    ]


def _levels(measurements: Sequence[Measurement]) -> list[int]:
    return sorted({each.streams for each in measurements})


def _rounds(load: str, found: Sequence[Measurement]) -> str:
    """How often each number of streams was measured at least."""
    counts = [sum(each.streams == level for each in found) for level in _levels(found)]
    return f"{load} {min(counts, default=0)}"


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
