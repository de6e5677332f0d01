"""Wakes those who wait for something to have become true: a death, a state, a signal."""

import asyncio
import contextlib
from collections.abc import Callable


class StateChanges:
    """What one part tells and any number of tasks wait for. Lives in one event loop."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Have every waiter look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait for the condition, which changes only with a tell(); False if time was up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._next()
        return condition()

    async def _next(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
