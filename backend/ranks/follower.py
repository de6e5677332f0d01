"""Every rank of a group but the first: runs the lead's plans as they come.

Knows no worker and no scheduler. Made by rank.py once the rank is loaded. Where the runner does not
wait for the device, a step is launched behind the one before, as the lead does it.
"""

import select
from typing import TYPE_CHECKING, cast

from backend.ranks import drawn_step
from backend.ranks.drawn_step import DrawnStep
from backend.step import PlanCorrupt, StepPlan
from backend.wire.control import ChildLine, Stop
from backend.wire.link import Link, PlanReader
from backend.wire.local.heartbeat import HeartbeatWriter, Phase

if TYPE_CHECKING:
    from backend.engine.device_runner import DeviceRunner, LaunchedStep
    from backend.engine.engine import Engine
    from backend.engine.model_runner import StepResult


class Follower:
    """Runs the plans it is sent, in order, each once."""

    def __init__(
        self,
        engine: "Engine",
        plans: PlanReader,
        line: ChildLine,
        heartbeat: HeartbeatWriter,
        drawn: Link | None = None,
    ) -> None:
        """drawn: to the lead, where this rank is the one to tell it what was drawn."""
        self._engine = engine
        self._plans = plans
        self._drawn = drawn
        self._line = line
        self._heartbeat = heartbeat
        self._step = 0
        self._flying: LaunchedStep | None = None

    def run(self) -> None:
        """Return when told to stop.

        Raises RingCorrupt and PlanCorrupt, and ChannelBroken where a lead elsewhere is gone.
        """
        poll = select.poll()
        poll.register(self._plans, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        while True:
            if self._flying is None:
                self._heartbeat.wait(poll)
            elif not poll.poll(0):
                self._land()
            for record in self._plans.read():
                self._follow(StepPlan.from_bytes(bytes(record)))
            while (packet := self._line.receive()) is not None:
                if isinstance(packet[0], Stop):
                    self._land()
                    return

    def _follow(self, plan: StepPlan) -> None:
        self._step += 1
        if plan.step != self._step:
            raise PlanCorrupt(f"step {plan.step} came where {self._step} was due")
        self._heartbeat.enter(Phase.STEP, plan.step)
        runner = self._engine.runner
        if runner.runs_ahead:
            step = cast("DeviceRunner", runner).launch(plan)
            self._land()
            self._flying = step
        else:
            self._tell(plan, runner.run(plan))
        self._heartbeat.enter(Phase.IDLE)

    def _tell(self, plan: StepPlan, result: "StepResult") -> None:
        """Tell the lead what was drawn, if that is this rank's to do."""
        if self._drawn is None:
            return
        step = DrawnStep(
            plan.step,
            result.token_ids,
            result.logprobs,
            result.prompt_logprobs,
            result.sample_s,
            self._engine.runner.num_full_gathers,
        )
        self._drawn.send(drawn_step.encode(step))

    def _land(self) -> None:
        """Wait for the step that is on the device, if one is: it is hung if that does not end."""
        if self._flying is None:
            return
        self._heartbeat.enter(Phase.STEP)
        flying, self._flying = self._flying, None
        cast("DeviceRunner", self._engine.runner).collect(flying)
        self._heartbeat.enter(Phase.IDLE)
