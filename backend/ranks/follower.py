"""Every rank of a group but the first: runs the lead's plans as they come.

Knows no worker and no scheduler. Made by rank.py once the rank is loaded. Where the runner does not
wait for the device, a step is launched behind the one before, as the lead does it.
"""

import select
from typing import TYPE_CHECKING, cast

from backend.step import PlanCorrupt, StepPlan
from backend.wire.control import ChildLine, Stop
from backend.wire.local.heartbeat import HeartbeatWriter, Phase
from backend.wire.local.ring import RingReader

if TYPE_CHECKING:
    from backend.engine.device_runner import DeviceRunner, LaunchedStep
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
        self._flying: LaunchedStep | None = None

    def run(self) -> None:
        """Return when told to stop. Raises RingCorrupt and PlanCorrupt."""
        poll = select.poll()
        poll.register(self._ring, select.POLLIN)
        poll.register(self._line, select.POLLIN)
        while True:
            if self._flying is None:
                self._heartbeat.wait(poll)
            elif not poll.poll(0):
                self._land()
            for record in self._ring.read():
                self._follow(StepPlan.from_bytes(record))
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
            runner.run(plan)
        self._heartbeat.enter(Phase.IDLE)

    def _land(self) -> None:
        """Wait for the step that is on the device, if one is: it is hung if that does not end."""
        if self._flying is None:
            return
        self._heartbeat.enter(Phase.STEP)
        flying, self._flying = self._flying, None
        cast("DeviceRunner", self._engine.runner).collect(flying)
        self._heartbeat.enter(Phase.IDLE)
