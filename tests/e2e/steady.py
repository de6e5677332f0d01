"""Tests whose subject is time, on a machine that may stand still, or be busy with others.

Knows only this process: while its turns come, those of others do, too.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

NUM_ATTEMPTS = 6
BEAT_SECONDS = 0.02
# A busy machine is seldom so late; one that stands still is.
LOST_SECONDS = 0.5


class Pulse:
    """Beats while its context lasts.

    longest_s: the longest time between two beats. lost_s: of all times that were far too long.
    """

    def __init__(self) -> None:
        self.longest_s = self.lost_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _beat(self) -> None:
        last_s = time.monotonic()
        while not self._is_over.wait(BEAT_SECONDS):
            now_s = time.monotonic()
            between_s = now_s - last_s
            self.longest_s = max(self.longest_s, between_s)
            self.lost_s += between_s if between_s > LOST_SECONDS else 0.0
            last_s = now_s


def steadily(attempt: Callable[[], T], slack_s: float = 0.2) -> T:
    """Return what an attempt does; one that fails while no turn came for slack_s is made again.

    On a machine that gives this process its turns the first failure counts.
    """
    for _ in range(NUM_ATTEMPTS - 1):
        with Pulse() as pulse:
            try:
                return attempt()
            except Exception as error:
                failure = error
        if pulse.longest_s < slack_s:
            raise failure
    return attempt()
