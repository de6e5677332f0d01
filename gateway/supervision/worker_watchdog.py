"""Asks the workers again and again whether their event loops turn, and ends those that do not.

As long as one answers, the service manager's watchdog is fed. The ranks have their heartbeat page.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from backend.wire.control import Ping, ToChild

logger = logging.getLogger(__name__)

PING_SECONDS = 5.0
# Questions, not seconds: a supervisor that was itself stopped has asked none meanwhile.
MAX_UNANSWERED = 6
# So many may be on their way.
NORMALLY_UNANSWERED = 2


class Pinged(Protocol):
    """A worker, as far as it is asked."""

    @property
    def is_serving(self) -> bool:
        """Whether it has begun to serve: before, it loads and does not listen."""

    number: int
    num_unanswered: int

    def tell(self, message: ToChild) -> None:
        """Send it something."""

    def kill(self) -> None:
        """End it now."""


class ServiceWatchdog(Protocol):
    """Who waits for signs of life."""

    @property
    def watchdog_s(self) -> float:
        """Seconds from one sign to the next; 0 if nobody waits."""

    def alive(self) -> None:
        """The server gets on."""


class WorkerWatchdog:
    """Asks by a timer in the supervisor's event loop."""

    def __init__(self, workers: Sequence[Pinged], watchdog: ServiceWatchdog) -> None:
        self._workers = workers
        self._watchdog = watchdog
        period = watchdog.watchdog_s / 3 if watchdog.watchdog_s else PING_SECONDS
        self._period_s = min(period, PING_SECONDS)
        self._max_unanswered = round(MAX_UNANSWERED * PING_SECONDS / self._period_s)
        self._ask()

    def stop(self) -> None:
        """Ask no more."""
        self._timer.cancel()

    def _ask(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._period_s, self._ask)
        asked = [worker for worker in self._workers if worker.is_serving]
        for worker in asked:
            if worker.num_unanswered >= self._max_unanswered:
                logger.error("gateway %d does not answer; killing it", worker.number)
                worker.kill()
            else:
                worker.num_unanswered += 1
                worker.tell(Ping())
        # Nobody is asked while everything loads, or while a worker is being replaced.
        if not asked or any(worker.num_unanswered <= NORMALLY_UNANSWERED for worker in asked):
            self._watchdog.alive()
