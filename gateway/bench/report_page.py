"""The page of `unisono bench serve --html`: what a server did at each level, drawn and listed."""

import math
from collections.abc import Sequence

from gateway.bench import page
from gateway.bench.charts import Bound, Line, Point, line_chart
from gateway.bench.report import Level, Report, number


def report_page(report: Report) -> str:
    """Return the page. Raises ImportError where matplotlib is not installed."""
    settings = report.settings
    sections = [page.notes(report.all_notes())]
    if len(report.levels) > 1:
        sections += [page.heading("Throughput"), _throughput(report)]
        sections += [page.heading("Latency"), *_latencies(report)]
    sections += [page.heading("Figures"), _throughput_table(report), "<p></p>"]
    sections.append(_latency_table(report))
    sections += [
        page.heading("Conditions"),
        page.facts([*report.conditions.lines(), *_load(report)]),
    ]
    return page.page(f"{settings.model} under load", _lead(report), sections)


def _lead(report: Report) -> str:
    settings = report.settings
    if settings.trace:
        what = f"the trace {settings.trace}"
    else:
        what = f"prompts of {settings.prompt_tokens} tokens, {settings.max_tokens} tokens generated"
    how = "requests at a rate (open loop)" if report.has_rates else "streams at once (closed loop)"
    return f"{what}; {how}; {page.rounds_text(settings.rounds)}"


def _load(report: Report) -> list[tuple[str, str]]:
    settings = report.settings
    load = [("temperature", f"{settings.temperature:g}"), ("ignore eos", str(settings.ignore_eos))]
    if settings.preset != "none":
        load.insert(0, ("preset", settings.preset))
    return [*load, ("other fields", settings.extra)] if settings.extra else load


def _throughput(report: Report) -> str:
    lines = [Line("all", _points(report.levels, "output_tokens_per_s"))]
    if report.has_limits:
        lines.append(Line("of good requests", _points(report.levels, "good_tokens_per_s")))
    svg = line_chart("Output tokens a second", _x_label(report), "tokens/s", lines)
    return page.figure(svg, _limits_caption(report))


def _latencies(report: Report) -> list[str]:
    settings = report.settings
    charts = []
    for title, field, limit_ms in (
        ("Time to the first token", "ttft", settings.ttft_limit_ms),
        ("Time between tokens", "itl", settings.itl_limit_ms),
    ):
        lines = [
            Line(f"p{percent}", _points(report.levels, f"{field}_p{percent}_ms"))
            for percent in (50, 90, 99)
        ]
        bounds = [Bound(f"limit, {limit_ms:g} ms", limit_ms)] if limit_ms else []
        svg = line_chart(title, _x_label(report), "ms", lines, bounds=bounds)
        charts.append(page.figure(svg))
    return charts


def _limits_caption(report: Report) -> str:
    settings = report.settings
    parts = []
    if settings.ttft_limit_ms:
        parts.append(f"first token within {settings.ttft_limit_ms:g} ms")
    if settings.itl_limit_ms:
        parts.append(f"at most {settings.itl_limit_ms:g} ms between tokens on average")
    return f"A good request: {', '.join(parts)}." if parts else ""


def _points(levels: Sequence[Level], field: str) -> list[Point]:
    return [
        Point(level.position, getattr(level.median, field), *_spread(level, field))
        for level in levels
    ]


def _spread(level: Level, field: str) -> tuple[float, float]:
    return level.span(field) if len(level.rounds) > 1 else (math.nan, math.nan)


def _x_label(report: Report) -> str:
    return "requests due a second" if report.has_rates else "streams at once"


def _first_heading(report: Report) -> str:
    return "requests/s" if report.has_rates else "streams"


def _throughput_table(report: Report) -> str:
    headings = [_first_heading(report), "requests", "failed", "short", "tokens/s", "least", "most"]
    headings += ["requests done/s", *(["good", "good/s"] if report.has_limits else [])]
    return page.table(headings, [_counts(report, level) for level in report.levels], num_text=0)


def _counts(report: Report, level: Level) -> list[str]:
    median = level.median
    low, high = level.span("output_tokens_per_s")
    cells = [level.name, *map(str, (median.num_requests, median.num_errors, median.num_short))]
    cells += [number(value, 1) for value in (median.output_tokens_per_s, low, high)]
    cells.append(number(median.requests_per_s, 2))
    if report.has_limits:
        cells += [f"{100 * median.good_share:.0f} %", number(median.good_requests_per_s, 2)]
    return cells


def _latency_table(report: Report) -> str:
    headings = [_first_heading(report), "TTFT p50, ms", "p90", "p99", "ITL p50, ms", "p90", "p99"]
    headings += ["whole answer p50, ms", "p99"]
    return page.table(headings, [_times(level) for level in report.levels], num_text=0)


def _times(level: Level) -> list[str]:
    median = level.median
    times = (
        *(median.ttft_p50_ms, median.ttft_p90_ms, median.ttft_p99_ms),
        *(median.itl_p50_ms, median.itl_p90_ms, median.itl_p99_ms),
        *(median.latency_p50_ms, median.latency_p99_ms),
    )
    return [level.name, *(number(value, 1) for value in times)]
