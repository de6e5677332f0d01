"""Steps in the air: one is on the device, the next is planned and launched behind it.

The lead does this where its runner does not wait for the device. A step is flown over, that is, the
next is planned before its tokens are known, unless the host must see a token first: where a grammar
decides what may follow it. It is landed before one is launched that would wait for the device
anyway. Knows the scheduler, the runner and the matchers; no worker.
"""

import select
import time
from collections.abc import Sequence as ListLike
from typing import TYPE_CHECKING

from backend.ranks.step_under_way import Landed, StepUnderWay
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import SeqKey, Sequence
from backend.step import StepPlan
from backend.structured_output.matchers import Matchers

if TYPE_CHECKING:
    from backend.engine.device_runner import DeviceRunner, LaunchedStep


class Flight:
    """See Flights in flights.py."""

    tells = False
    is_full = False

    def __init__(self, scheduler: Scheduler, runner: "DeviceRunner", matchers: Matchers) -> None:
        self._scheduler, self._runner, self._matchers = scheduler, runner, matchers
        self._flying: tuple[StepUnderWay, LaunchedStep] | None = None

    @property
    def is_flying(self) -> bool:
        return self._flying is not None

    @property
    def step(self) -> int:
        return self._flying[0].plan.step if self._flying else 0

    @property
    def suspects(self) -> list[SeqKey]:
        return self._flying[0].newcomers if self._flying else []

    def launch(
        self,
        plan: StepPlan,
        sampled: ListLike[Sequence],
        newcomers: list[SeqKey],
        started_s: float,
    ) -> list[Landed]:
        landed = self.land() if self._runner.waits(plan) else []
        step = StepUnderWay(plan, list(sampled), newcomers, time.monotonic() - started_s)
        launched = self._runner.launch(plan)
        landed += self.land()
        self._scheduler.advance(plan)
        self._flying = step, launched
        if self._runner.waits(plan) or self._matchers.watches(sampled):
            landed += self.land()
        return landed

    def register(self, poll: select.poll) -> None:
        """The host waits in land()."""

    def arrived(self) -> list[Landed]:
        return []

    def land(self) -> list[Landed]:
        if self._flying is None:
            return []
        (step, launched), self._flying = self._flying, None
        result = self._runner.collect(launched)
        drawn = result.token_ids, result.logprobs, result.prompt_logprobs
        outputs = step.resolve(self._scheduler, self._matchers, *drawn)
        return [Landed(step.plan, outputs, step.schedule_s, result, result.forward_s)]
