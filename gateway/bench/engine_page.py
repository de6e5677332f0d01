"""The page of `unisono bench engine --html`: steps by batch and context, prompts by length."""

from collections.abc import Sequence

from backend.wire.step_times import StepTimes
from gateway.bench import page
from gateway.bench.charts import Line, Point, line_chart
from gateway.bench.engine_steps import (
    EngineReport,
    compute_text,
    missing_texts,
    quartiles_ms,
    tokens_per_s,
)

_SPREAD = "Medians; bars span the middle half of the steps."


def engine_page(report: EngineReport) -> str:
    """Return the page. Raises ImportError where matplotlib is not installed."""
    decodes = [times for times in report.times if times.kind == "decode"]
    prompts = [times for times in report.times if times.kind == "prompt"]
    sections = [page.notes([f"missing: {words}" for words in missing_texts(report)])]
    if decodes:
        sections += [
            page.heading("Decode steps"),
            *_decode_figures(decodes),
            _table(decodes, "context"),
        ]
    if prompts:
        sections += [page.heading("Prompts"), _prompt_figure(prompts), _table(prompts, "length")]
    engine = report.engine
    facts = [
        ("model", f"{report.model} ({engine.family})"),
        ("weights", f"{engine.weight_bytes / 1e6:,.0f} MB"),
        ("KV cache", f"{engine.kv_bytes / 1e6:,.0f} MB, blocks of {engine.block_size}"),
        ("sampling", report.sampling),
        ("computes on", compute_text(report)),
        *report.conditions.lines(),
    ]
    sections += [page.heading("Conditions"), page.facts(facts)]
    return page.page("Steps of an engine", compute_text(report), sections)


def _decode_figures(decodes: Sequence[StepTimes]) -> list[str]:
    contexts = list(dict.fromkeys(times.tokens for times in decodes))
    steps = [
        Line(f"context {n:,}", _points([t for t in decodes if t.tokens == n])) for n in contexts
    ]
    speeds = [
        Line(
            f"context {n:,}",
            [Point(t.batch, tokens_per_s(t)) for t in decodes if t.tokens == n],
        )
        for n in contexts
    ]
    return [
        page.figure(line_chart("Time of a step", "sequences", "ms", steps), _SPREAD),
        page.figure(line_chart("Tokens a second", "sequences", "tokens/s", speeds)),
    ]


def _prompt_figure(prompts: Sequence[StepTimes]) -> str:
    batches = list(dict.fromkeys(times.batch for times in prompts))
    lines = [
        Line(
            f"{batch} at a time",
            [Point(t.tokens, t_ms[1], t_ms[0], t_ms[2]) for t, t_ms in _timed(prompts, batch)],
        )
        for batch in batches
    ]
    return page.figure(line_chart("Time of prompts", "tokens of each", "ms", lines), _SPREAD)


def _timed(
    prompts: Sequence[StepTimes], batch: int
) -> list[tuple[StepTimes, tuple[float, float, float]]]:
    return [(times, quartiles_ms(times)) for times in prompts if times.batch == batch]


def _points(decodes: Sequence[StepTimes]) -> list[Point]:
    points = []
    for times in decodes:
        low, middle, high = quartiles_ms(times)
        points.append(Point(times.batch, middle, low, high))
    return points


def _table(measured: Sequence[StepTimes], tokens: str) -> str:
    rows = []
    for times in measured:
        low, middle, high = quartiles_ms(times)
        cells = [str(times.batch), f"{times.tokens:,}"]
        cells += [f"{ms:.2f}" for ms in (middle, low, high)]
        rows.append([*cells, f"{tokens_per_s(times):,.1f}", str(len(times.seconds))])
    headings = ["batch", tokens, "ms, median", "first quartile", "third", "tokens/s", "measured"]
    return page.table(headings, rows, num_text=0)
