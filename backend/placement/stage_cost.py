"""How long steps take where layers are shared out over stages (pipeline parallel).

A batch is cut into as many cohorts as there are stages; each stage works on one of them and hands
its rows on. While all are busy the slowest stage sets the pace, once a cohort; with fewer cohorts a
token takes as long as its way through all stages and hops, and back to the first stage, which
computes its next one. Prompts' chunks flow likewise; where nothing else is under way the pipeline
fills first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.placement.cost_model import Rows, StepCost, StepTime
from backend.placement.hop import Hop

# Rows and what the last layer adds to them, in 16 bits each.
_HOP_BYTES = 2 * 2
# scheduler/prefill_budget.py: a chunk has so many tokens at least.
_LEAST_CHUNK = 32


@dataclass(frozen=True, slots=True)
class PipelineCost:
    """Costs of the slowest rank of each stage, and the hops between them. back: the way of drawn
    tokens from the last stage to the first. hidden: of a row."""

    stages: Sequence[StepCost]
    hops: Sequence[Hop]
    back: Hop
    hidden: int

    def of(self, rows: Rows) -> StepTime:
        """Return the time in which every sequence of a step gets its token."""
        size = len(self.stages)
        cohorts = min(size, max(1.0, rows.decodes + rows.prompt_tokens // _LEAST_CHUNK))
        part = Rows(
            rows.decodes / cohorts,
            rows.context,
            rows.prompt_tokens / cohorts,
            rows.position,
            rows.sampled / cohorts,
        )
        inner = part._replace(sampled=0.0)
        alike = {id(cost): cost for cost in self.stages[:-1]}
        known = {key: cost.of(inner) for key, cost in alike.items()}
        times = [known[id(cost)] for cost in self.stages[:-1]] + [self.stages[-1].of(part)]
        slowest = max(times, key=lambda time: time.total)
        num_rows = part.decodes + part.prompt_tokens
        hops_s = sum(hop.seconds(num_rows * self.hidden * _HOP_BYTES) for hop in self.hops)
        if rows.decodes:
            hops_s += self.back.seconds()
        way_s = hops_s + sum(time.total for time in times)
        busy = slowest.times(cohorts)
        # The first of several chunks passes through all stages before the last one of them works.
        fills_s = way_s - slowest.total if not rows.decodes else max(0.0, way_s - busy.total)
        return busy + StepTime(hops=fills_s)
