"""Tells the workers of all gateways what each key was given here, so that a key that asks several
of them is served once in fairness, not once by each.

Now and then a worker sends what it has given since through one group of a name, whose lead passes
it on to everybody else there. A worker's counter of a key lags what the key was given elsewhere by
what that was in SHARE_SECONDS and the time of a step; what is on its way when a group dies is lost.
Knows counts, no requests. Belongs to ReplicaPool.
"""

import asyncio
import itertools
from collections.abc import Iterable

from backend.wire.messages import MAX_SERVED_KEYS, Served
from gateway.pool.dispatcher import Dispatcher
from gateway.pool.lane import Lane

SHARE_SECONDS = 1.0


class SharedService:
    """note() after each frame; everything else follows."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._turns = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def note(self) -> None:
        """Somebody may have been given something."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SHARE_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self.tell(self._dispatcher.lanes())

    def tell(self, lanes: Iterable[Lane]) -> None:
        """Send what was given since the last time; what finds no room waits for the next."""
        turn = next(self._turns)
        for lane in lanes:
            groups = self._dispatcher.groups_of(lane.name).working.members
            if not groups or not lane.queue.served:
                continue
            most = sorted(lane.queue.served.items(), key=lambda item: -item[1])[:MAX_SERVED_KEYS]
            if groups[turn % len(groups)].end.send(Served(dict(most))):
                lane.queue.served.clear()
