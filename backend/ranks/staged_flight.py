"""Steps under way through the stages of a group: one in each stage, if there is work for them.

The lead is in the first stage. It launches a step by running its own layers, which hands the
stream on, and plans the next, of other sequences, while later stages are at it; a step lands when
the last stage has told what it drew. Knows the scheduler, the runner and the matchers; no worker.
"""

import select
import time
from collections import deque
from collections.abc import Sequence as ListLike
from typing import TYPE_CHECKING

from backend.ranks import drawn_step
from backend.ranks.drawn_step import DrawnStep
from backend.ranks.step_under_way import Landed, StepUnderWay
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import SeqKey, Sequence
from backend.step import PlanCorrupt, StepPlan
from backend.structured_output.matchers import Matchers
from backend.wire.link import Link

if TYPE_CHECKING:
    from backend.engine.stage_runner import StageRunner


class StagedFlight:
    """See Flights in flights.py."""

    tells = True

    def __init__(
        self,
        scheduler: Scheduler,
        runner: "StageRunner",
        matchers: Matchers,
        drawn: Link,
        num_stages: int,
    ) -> None:
        """drawn: from the last stage's first rank."""
        self._scheduler, self._runner, self._matchers = scheduler, runner, matchers
        self._drawn = drawn
        self._num_stages = num_stages
        self._flying: deque[tuple[StepUnderWay, float]] = deque()  # and when it began
        self._landed_s = 0.0

    @property
    def is_flying(self) -> bool:
        return bool(self._flying)

    @property
    def is_full(self) -> bool:
        return len(self._flying) >= self._num_stages

    @property
    def step(self) -> int:
        return self._flying[0][0].plan.step if self._flying else 0

    @property
    def suspects(self) -> list[SeqKey]:
        return [key for step, _ in self._flying for key in step.newcomers]

    def register(self, poll: select.poll) -> None:
        poll.register(self._drawn, select.POLLIN)

    def launch(
        self,
        plan: StepPlan,
        sampled: ListLike[Sequence],
        newcomers: list[SeqKey],
        started_s: float,
    ) -> list[Landed]:
        launched_s = time.monotonic()
        self._runner.run(plan)
        self._scheduler.advance(plan)
        step = StepUnderWay(plan, list(sampled), newcomers, launched_s - started_s)
        self._flying.append((step, launched_s))
        return []

    def land(self) -> list[Landed]:
        return []  # no rank waits in a sum of all for this one

    def arrived(self) -> list[Landed]:
        return [self._land(drawn_step.decode(payload)) for payload in self._drawn.read()]

    def _land(self, drawn: DrawnStep) -> Landed:
        from backend.engine.model_runner import StepResult

        step, launched_s = self._flying.popleft()
        if drawn.step != step.plan.step:
            raise PlanCorrupt(f"tokens of step {drawn.step} came where {step.plan.step} was due")
        now_s = time.monotonic()
        # What a step takes begins when the one before it is over.
        forward_s = now_s - max(launched_s, self._landed_s) - drawn.sample_s
        self._landed_s = now_s
        self._runner.num_full_gathers = drawn.num_full_gathers
        told = drawn.token_ids, drawn.logprobs, drawn.prompt_logprobs
        outputs = step.resolve(self._scheduler, self._matchers, *told)
        result = StepResult(forward_s=max(0.0, forward_s), sample_s=drawn.sample_s)
        return Landed(step.plan, outputs, step.schedule_s, result, now_s - launched_s)
