"""Every rank of a group but the first: runs the lead's plans as they come.

Knows no worker and no scheduler. Made by rank.py once the rank is loaded.
"""

import select
from typing import TYPE_CHECKING

from backend.step import PlanCorrupt, StepPlan
from backend.wire.control import ChildLine, Stop
from backend.wire.local.heartbeat import HeartbeatWriter, Phase
from backend.wire.local.ring import RingReader

if TYPE_CHECKING:
    from backend.engine.engine import Engine


class Follower:
    """Runs the plans it is sent, in order, each once."""

    def __init__(
        self, engine: "Engine", ring: RingReader, line: ChildLine, heartbeat: HeartbeatWriter
    ) -> None:
        self._engine = engine
        self._ring = ring
        self._line = line
        self._heartbeat = heartbeat
        self._step = 0

    def run(self) -> None:
        """Return when told to stop. Raises RingCorrupt and PlanCorrupt."""
        poll = select.poll()
        poll.register(self._ring, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        while True:
            self._heartbeat.wait(poll)
            for record in self._ring.read():
                self._follow(StepPlan.from_bytes(record))
            while (packet := self._line.receive()) is not None:
                if isinstance(packet[0], Stop):
                    return

    def _follow(self, plan: StepPlan) -> None:
        self._step += 1
        if plan.step != self._step:
            raise PlanCorrupt(f"step {plan.step} came where {self._step} was due")
        self._heartbeat.enter(Phase.STEP, plan.step)
        self._engine.runner.run(plan)
        self._heartbeat.enter(Phase.IDLE)
