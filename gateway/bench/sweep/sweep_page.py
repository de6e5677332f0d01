"""The page of a sweep: the article's Figure 8 for each model, latencies, memory, and why points are
missing."""

import math
import string
from collections.abc import Sequence

from gateway.bench import page
from gateway.bench.charts import Bar, Line, Missing, Point, bar_chart, line_chart
from gateway.bench.death import ServerDeath
from gateway.bench.sweep import results as found
from gateway.bench.sweep.report import by_model, facts, figures_of, layout_names, load_text

_HEADINGS = [
    *("layout", "streams", "tokens/s", "spread", "TTFT p50, ms", "p99", "ITL p50, ms", "p99"),
    *("memory, MB", "notes"),
]


def sweep_page(results: found.Results) -> str:
    """Return the page. Raises ImportError where matplotlib is not installed."""
    sections = []
    for model, runs in by_model(results).items():
        reasons = _reasons(runs)
        sections += [page.heading(model), *_figures(model, runs, reasons), _table(runs, reasons)]
    sections += [page.heading("Servers"), _servers(results)]
    sections += [page.heading("Conditions"), page.facts(_all_facts(results))]
    rounds = max((len(p.rounds) for run in results.runs for p in run.points), default=0)
    lead = f"{load_text(results)}; {page.rounds_text(rounds)}"
    return page.page("Throughput by batch size", lead, sections)


def _figures(model: str, runs: Sequence[found.Run], reasons: dict[str, str]) -> list[str]:
    names = layout_names(runs)
    throughput = [
        Line(name, _points(run, "output_tokens_per_s"), _missing(run, reasons))
        for run, name in zip(runs, names, strict=True)
    ]
    title = f"{model}: throughput by batch size"
    figures = [
        page.figure(
            line_chart(title, "batch size: streams at once", "output tokens/s", throughput),
            "A cross stands for a point that could not be measured." if reasons else "",
            [(mark, reason) for reason, mark in reasons.items()],
        )
    ]
    for title, field in (
        ("Time to the first token, median", "ttft_p50_ms"),
        ("Time between tokens, median", "itl_p50_ms"),
    ):
        lines = [Line(name, _points(run, field)) for run, name in zip(runs, names, strict=True)]
        figures.append(page.figure(line_chart(title, "streams at once", "ms", lines)))
    memory = [
        Bar(name, [("", _memory_mb(run))])
        for run, name in zip(runs, names, strict=True)
        if _memory_mb(run)
    ]
    if memory:
        caption = "PSS of all processes after the largest level; of the KV cache, pages once used."
        figures.append(page.figure(bar_chart("Memory", "MB", memory), caption))
    return figures


def _points(run: found.Run, field: str) -> list[Point]:
    points = []
    for point in run.points:
        if (level := point.level) is not None:
            span = level.span(field) if len(level.rounds) > 1 else (math.nan, math.nan)
            points.append(Point(point.concurrency, getattr(level.median, field), *span))
    return points


def _reasons(runs: Sequence[found.Run]) -> dict[str, str]:
    """Return a letter for each reason why points are missing."""
    deaths = [point.death for run in runs for point in run.points if point.death is not None]
    reasons = dict.fromkeys(_reason(death) for death in deaths)
    marks = [*string.ascii_lowercase, *(f"{n}" for n in range(1, 1 + len(reasons)))]
    return dict(zip(reasons, marks, strict=False))


def _reason(death: ServerDeath) -> str:
    return f"out of memory: {death.reason}" if death.is_out_of_memory else death.reason


def _missing(run: found.Run, reasons: dict[str, str]) -> list[Missing]:
    return [
        Missing(point.concurrency, reasons[_reason(point.death)])
        for point in run.points
        if point.death is not None
    ]


def _memory_mb(run: found.Run) -> float:
    return max((point.memory_bytes for point in run.points), default=0) / 1e6


def _table(runs: Sequence[found.Run], reasons: dict[str, str]) -> str:
    rows = []
    for run, name in zip(runs, layout_names(runs), strict=True):
        for point in run.points:
            if point.death is not None:
                cells = ["-"] * (len(_HEADINGS) - 3)
                mark = reasons[_reason(point.death)]
                rows.append([name, str(point.concurrency), *cells, f"missing: {mark}"])
            elif point.rounds:
                notes = "; ".join(point.notes)
                rows.append([name, str(point.concurrency), *figures_of(point), notes])
    return page.table(_HEADINGS, rows, words=[len(_HEADINGS) - 1])


def _servers(results: found.Results) -> str:
    headings = ["command", "computes on", "ready after, s"]
    rows = [[run.command, run.compute, f"{run.ready_s:.1f}"] for run in results.runs if run.command]
    return page.table(headings, rows, words=(0, 1))


def _all_facts(results: found.Results) -> list[tuple[str, str]]:
    serve = ", ".join(f"{name} {value}" for name, value in results.load.serve.items())
    return [*facts(results), *([("every server", serve)] if serve else [])]
