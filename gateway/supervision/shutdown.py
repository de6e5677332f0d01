"""The end of a server: workers drain, groups stop, and what does not go is killed."""

import signal
import time
from collections.abc import Mapping, Sequence

from backend.wire.control import Drain, Stop
from gateway.notices.startup_reporter import StartupReporter
from gateway.supervision.groups import Group
from gateway.supervision.incarnation import STOP_SECONDS, Launcher
from gateway.supervision.operations import LOOK_SECONDS
from gateway.supervision.state_changes import StateChanges
from gateway.supervision.workers import Worker

# What workers get to tell clients that their answers end here.
CUT_OFF_SECONDS = 3.0


class Shutdown:
    """Ends the children that a supervisor has by then."""

    def __init__(
        self,
        workers: Sequence[Worker],
        groups: Mapping[int, Group],
        launcher: Launcher,
        changes: StateChanges,
        reporter: StartupReporter,
    ) -> None:
        self._workers = workers
        self._groups = groups
        self._launcher = launcher
        self._changes = changes
        self._reporter = reporter

    async def run(
        self, seconds: float, signals: Sequence[signal.Signals], *, has_served: bool
    ) -> None:
        """Drain the workers for so long, stop the groups, kill what does not go.

        signals: that have come and still come; one more SIGINT ends the draining.
        """
        if signals:
            self._reporter.stops(seconds, has_served=has_served)
        for worker in self._workers:
            worker.tell(Drain(seconds))
        for group in self._groups.values():
            group.retire()
        hurry = signals.count(signal.SIGINT) + 1

        def is_hurried() -> bool:
            return signals.count(signal.SIGINT) >= hurry

        until_s = time.monotonic() + seconds
        await self._changes.until(
            lambda: is_hurried() or self._is_free_of_workers(), seconds + STOP_SECONDS
        )
        if not self._is_free_of_workers():
            self._reporter.cuts_off()
            for worker in self._workers:
                worker.tell(Drain(0.0))
            await self._changes.until(self._is_free_of_workers, CUT_OFF_SECONDS)
        # What other gateways have in our groups; what is left goes on elsewhere.
        while not is_hurried() and self._is_used() and (left_s := until_s - time.monotonic()) > 0:
            await self._changes.until(
                lambda: is_hurried() or not self._is_used(), min(LOOK_SECONDS, left_s)
            )
        for worker in self._workers:
            worker.tell(Stop())
        for group in self._groups.values():
            group.stop()
        await self._changes.until(self._is_groupless, STOP_SECONDS)
        self._launcher.close()
        if await self._changes.until(self._is_childless, STOP_SECONDS):
            return
        self.kill()
        await self._changes.until(self._is_childless, STOP_SECONDS)

    def kill(self) -> None:
        """End every child now: the interpreter would wait for those that are left."""
        for worker in self._workers:
            worker.kill()
        for group in self._groups.values():
            if group.incarnation is not None:
                group.incarnation.kill()
        self._launcher.kill()

    def _is_used(self) -> bool:
        return any(group.num_sequences for group in self._groups.values())

    def _is_free_of_workers(self) -> bool:
        return all(worker.child is None for worker in self._workers)

    def _is_groupless(self) -> bool:
        return all(group.incarnation is None for group in self._groups.values())

    def _is_childless(self) -> bool:
        return self._is_free_of_workers() and self._is_groupless() and self._launcher.has_ended
