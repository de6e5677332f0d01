"""Shows what a sweep found as a table: a row a point, those that are missing with their reason."""

import math
from collections.abc import Sequence

from gateway.bench.report import number
from gateway.bench.sweep.results import Layout, Point, Results, Run

_HEADINGS = ("streams", "tokens/s", "spread", "TTFT p50", "p99", "ITL p50", "p99", "MB")
_WIDTHS = (8, 10, 8, 10, 9, 9, 8, 8)


def layout_names(runs: Sequence[Run]) -> list[str]:
    """Name each layout by what tells it from the others, TP and DP always."""
    varying = [
        field
        for field in ("dtype", "quantization")
        if len({getattr(run.layout, field) for run in runs}) > 1
    ]
    return [_name(run.layout, varying) for run in runs]


def _name(layout: Layout, varying: Sequence[str]) -> str:
    others = [f"{field} {getattr(layout, field)}" for field in varying]
    return ", ".join([f"TP {layout.tp} x DP {layout.dp}", *others])


def by_model(results: Results) -> dict[str, list[Run]]:
    """Return the runs of each model, by the name that people see."""
    named = {run.layout.model: run.model_name for run in results.runs if run.model_name}
    models: dict[str, list[Run]] = {}
    for run in results.runs:
        name = named.get(run.layout.model) or run.layout.model or "the default model"
        models.setdefault(name, []).append(run)
    return models


def as_table(results: Results) -> str:
    """Render all points for people; latencies are in ms, memory is of all processes."""
    lines = []
    for model, runs in by_model(results).items():
        lines.append(model)
        for run, name in zip(runs, layout_names(runs), strict=True):
            lines += [
                f"  {name}",
                "".join(h.rjust(w) for h, w in zip(_HEADINGS, _WIDTHS, strict=True)),
            ]
            lines += [_row(point) for point in run.points]
    lines += ["", *_facts(results)]
    return "\n".join(lines)


def _row(point: Point) -> str:
    head = str(point.concurrency).rjust(_WIDTHS[0])
    if point.death is not None:
        return f"{head}  missing: {point.death.reason}"
    if not point.rounds:
        return f"{head}  not measured yet"
    notes = f"  ({'; '.join(point.notes)})" if point.notes else ""
    cells = figures_of(point)
    return head + "".join(c.rjust(w) for c, w in zip(cells, _WIDTHS[1:], strict=True)) + notes


def figures_of(point: Point) -> list[str]:
    """Return the figures of a point that has some, as text."""
    level = point.level
    assert level is not None
    spread = "-" if len(level.rounds) < 2 else number(level.spread_percent, 0) + "%"
    median = level.median
    times = (median.ttft_p50_ms, median.ttft_p99_ms, median.itl_p50_ms, median.itl_p99_ms)
    memory = point.memory_bytes / 1e6 if point.memory_bytes else math.nan
    return [
        number(median.output_tokens_per_s, 1),
        spread,
        *(number(value, 1) for value in times),
        number(memory, 0),
    ]


def facts(results: Results) -> list[tuple[str, str]]:
    """Return the conditions of all runs; where they differ, each of them."""
    seen: dict[str, dict[str, None]] = {}
    for run in results.runs:
        for name, value in run.conditions.lines():
            if name not in ("server", "measured at"):
                seen.setdefault(name, {})[value] = None
    times = sorted(run.conditions.measured_at for run in results.runs)
    merged = [(name, "; ".join(values)) for name, values in seen.items()]
    if times:
        span = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
        merged.append(("measured at", span))
    return merged


def load_text(results: Results) -> str:
    """Say in a line what every server was asked."""
    load = results.load
    others = "".join(f", {name} {value}" for name, value in load.extra.items())
    return (
        f"prompt {load.prompt_tokens}, output {load.max_tokens} tokens, temperature "
        f"{load.temperature:g}{others}"
    )


def _facts(results: Results) -> list[str]:
    return [f"load: {load_text(results)}", *(f"{name}: {value}" for name, value in facts(results))]
