"""The page of `unisono tune --html`: every race drawn and listed, and what was chosen."""

from collections.abc import Mapping, Sequence

from gateway.bench import page
from gateway.bench.charts import Bar, bar_chart
from gateway.bench.machine import Conditions
from gateway.tuning.report import RULE, mean_trial, words_of
from gateway.tuning.trial import Objective, Trial
from gateway.tuning.tuner import Outcome, Stage

_HEADINGS = (
    "",
    "verdict",
    "rounds",
    "tokens/s",
    "request p50, ms",
    "TTFT p99, ms",
    "ITL p99, ms",
    "memory, GB",
)


def tuning_page(
    title: str,
    lead: str,
    outcome: Outcome,
    objective: Objective,
    predicted: Mapping[str, float],
    conditions: Conditions,
    facts: Sequence[tuple[str, str]],
) -> str:
    """Return the page. Raises ImportError where matplotlib is not installed."""
    sections = [page.notes([f"objective: {objective}", RULE])]
    for stage in outcome.stages:
        sections += [page.heading(stage.name.capitalize()), _drawn(stage, objective, predicted)]
        sections.append(_table(stage, predicted))
    sections += [page.heading("Conditions"), page.facts([*conditions.lines(), *facts])]
    return page.page(title, lead, sections)


def _drawn(stage: Stage, objective: Objective, predicted: Mapping[str, float]) -> str:
    is_speed = objective.goal == "throughput"
    bars = []
    for standing in stage.standings:
        good = _good(standing.trials)
        if not good:
            continue
        means = mean_trial(good)
        value = means.tokens_per_s if is_speed else means.request_ms
        bars.append(Bar(standing.name, [("", value)]))
        if is_speed and standing.name in predicted:
            bars.append(Bar("predicted", [("", predicted[standing.name])], is_pale=True))
    label = "output tokens/s" if is_speed else "ms a request"
    return page.figure(bar_chart(f"By {stage.name}", label, bars)) if bars else ""


def _table(stage: Stage, predicted: Mapping[str, float]) -> str:
    rows = []
    for standing in stage.standings:
        good = _good(standing.trials)
        row = [standing.name, words_of(standing, stage, predicted), str(len(standing.trials))]
        if good:
            means = mean_trial(good)
            row += [
                f"{means.tokens_per_s:,.1f}",
                f"{means.request_ms:,.0f}",
                f"{means.ttft_p99_ms:,.0f}",
                f"{means.itl_p99_ms:,.0f}",
                f"{means.memory_bytes / 1e9:.2f}",
            ]
        rows.append(row)
    return page.table(_HEADINGS, rows, num_text=0, words={0, 1})


def _good(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if not trial.failure]
