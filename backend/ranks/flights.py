"""How a lead has its steps run: one at a time, one ahead of the device, or one in each stage.

The lead plans; what it hands over here comes back landed, with its tokens recorded, sooner or
later. Which way it goes follows from the group and its runner.
"""

import select
import time
from collections.abc import Sequence as ListLike
from typing import TYPE_CHECKING, Protocol, cast

from backend.ranks.flight import Flight
from backend.ranks.staged_flight import StagedFlight
from backend.ranks.step_under_way import Landed
from backend.scheduler.pooling_scheduler import PoolingScheduler
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import SeqKey, Sequence
from backend.step import StepPlan
from backend.structured_output.matchers import Matchers
from backend.wire.link import Link

if TYPE_CHECKING:
    from backend.engine.device_runner import DeviceRunner
    from backend.engine.engine import Engine
    from backend.engine.stage_runner import StageRunner


class Flights(Protocol):
    """Launches and lands steps, in order.

    tells: whether a descriptor tells when a step can land, so that nobody waits for one here.
    """

    tells: bool

    @property
    def is_flying(self) -> bool:
        """Whether tokens of some step are still to come."""

    @property
    def is_full(self) -> bool:
        """Whether a step must land before another is planned."""

    @property
    def step(self) -> int:
        """The number of the step that lands next; 0 for none."""

    @property
    def suspects(self) -> list[SeqKey]:
        """The newcomers of all steps that fly: one of those may be the one that fails."""

    def register(self, poll: select.poll) -> None:
        """Have a poll wake when a step can land, if a descriptor tells."""

    def launch(
        self,
        plan: StepPlan,
        sampled: ListLike[Sequence],
        newcomers: list[SeqKey],
        started_s: float,
    ) -> list[Landed]:
        """Launch the step at hand, and return what has landed meanwhile.

        started_s: when its planning began, time.monotonic().
        """

    def arrived(self) -> list[Landed]:
        """Return what has landed by itself since. Does not wait."""

    def land(self) -> list[Landed]:
        """Wait for a step that other ranks wait for, too, and return it landed."""


class OneByOne:
    """Runs each step to its end."""

    tells = False
    is_flying = False
    is_full = False
    step = 0

    def __init__(
        self, scheduler: Scheduler | PoolingScheduler, engine: "Engine", matchers: Matchers
    ) -> None:
        self._scheduler, self._engine, self._matchers = scheduler, engine, matchers

    @property
    def suspects(self) -> list[SeqKey]:
        return []

    def register(self, poll: select.poll) -> None:
        """Nothing flies."""

    def launch(
        self,
        plan: StepPlan,
        sampled: ListLike[Sequence],
        newcomers: list[SeqKey],
        started_s: float,
    ) -> list[Landed]:
        planned_s = time.monotonic()
        result = self._engine.runner.run(plan)
        self._engine.tp.check()
        seconds = time.monotonic() - planned_s
        self._matchers.accept(sampled, result.token_ids)
        if isinstance(self._scheduler, PoolingScheduler):
            outputs = self._scheduler.commit_vectors(plan, result.vectors)
        else:
            outputs = self._scheduler.commit(
                plan, result.token_ids, result.logprobs, result.prompt_logprobs
            )
        self._matchers.keep(lambda key: key in self._scheduler)
        return [Landed(plan, outputs, planned_s - started_s, result, seconds)]

    def arrived(self) -> list[Landed]:
        return []

    def land(self) -> list[Landed]:
        return []


def choose_flights(
    scheduler: Scheduler | PoolingScheduler,
    engine: "Engine",
    matchers: Matchers,
    drawn: Link | None,
    num_stages: int,
) -> Flights:
    """Return what runs a group's steps. drawn: what the last stage tells, where there are several.

    Steps fly ahead where the runner does not wait for the device.
    """
    if drawn is not None:
        runner = cast("StageRunner", engine.runner)
        return StagedFlight(scheduler, runner, matchers, drawn, num_stages)
    if engine.runner.runs_ahead:
        return Flight(scheduler, cast("DeviceRunner", engine.runner), matchers)
    return OneByOne(scheduler, engine, matchers)
