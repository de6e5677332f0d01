"""Every rank of a group but the first: runs the lead's plans as they come.

Knows no worker and no scheduler. Made by rank.py once the rank is loaded.
"""

import select
from typing import TYPE_CHECKING

from backend.ranks import drawn_step
from backend.ranks.drawn_step import DrawnStep
from backend.step import PlanCorrupt, StepPlan
from backend.wire.control import ChildLine, Stop
from backend.wire.link import Link, PlanReader
from backend.wire.local.heartbeat import HeartbeatWriter, Phase

if TYPE_CHECKING:
    from backend.engine.engine import Engine


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

    def run(self) -> None:
        """Return when told to stop. Raises RingCorrupt and PlanCorrupt."""
        poll = select.poll()
        poll.register(self._plans, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        while True:
            self._heartbeat.wait(poll)
            for record in self._plans.read():
                self._follow(StepPlan.from_bytes(bytes(record)))
            while (packet := self._line.receive()) is not None:
                if isinstance(packet[0], Stop):
                    return

    def _follow(self, plan: StepPlan) -> None:
        self._step += 1
        if plan.step != self._step:
            raise PlanCorrupt(f"step {plan.step} came where {self._step} was due")
        self._heartbeat.enter(Phase.STEP, plan.step)
        result = self._engine.runner.run(plan)
        if self._drawn is not None:
            gathers = self._engine.runner.num_full_gathers
            step = DrawnStep(
                plan.step,
                result.token_ids,
                result.logprobs,
                result.prompt_logprobs,
                result.sample_s,
                gathers,
            )
            self._drawn.send(drawn_step.encode(step))
        self._heartbeat.enter(Phase.IDLE)
