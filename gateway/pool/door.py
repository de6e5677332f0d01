"""Where requests wait while no group of a name takes work, though one did: it is starting again.

Nothing of them is in the pool's queue yet. Knows no groups. Belongs to ReplicaPool.
"""

import asyncio
import contextlib
from collections.abc import Callable

from gateway.pool.refusals import QueueFull


class Door:
    """Who finds it shut waits for it to open, for so long."""

    def __init__(
        self,
        is_shut: Callable[[str], bool],
        clock: Callable[[], float],
        *,
        wait_seconds: float,
        max_waiting: int,
    ) -> None:
        """is_shut: says whether it is, for the groups of a name. clock: CLOCK_MONOTONIC seconds.
        max_waiting: requests at a time."""
        self._is_shut = is_shut
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._num_waiting = 0
        self._news = asyncio.Event()  # set once, then replaced

    def is_shut(self, group: str = "") -> bool:
        """Whether there is anything to wait for. group: a name of groups, or none."""
        return self._is_shut(group)

    async def wait(self, deadline_s: float = 0.0, group: str = "") -> None:
        """Return when the door is open, or no more waiting is worth while.

        deadline_s: of the request, on the clock; 0 for none. Raises QueueFull.
        """
        if self._num_waiting >= self._max_waiting:
            raise QueueFull(retry_after_s=2.0)
        until_s = min(self._clock() + self._wait_seconds, deadline_s or float("inf"))
        self._num_waiting += 1
        try:
            # A loop's timer may fire a little before its time, and who is early would be told that
            # there is no group, not that the time is over.
            while self._is_shut(group) and (left_s := until_s - self._clock()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._news.wait()
        finally:
            self._num_waiting -= 1

    def tell(self) -> None:
        """Have everybody who waits look again."""
        self._news.set()
        self._news = asyncio.Event()
