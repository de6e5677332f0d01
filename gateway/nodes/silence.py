"""Tells a node that has fallen silent from this process having been stopped: nobody's fault.

A machine may stand still as a whole, as while it is moved to another host: what did not come then
could not be said, or could not be heard. Used by both sides of an agent's stream.
"""

import time

# Whoever beats every second and comes so late was stopped; a busy machine is seldom so late.
STOPPED_SECONDS = 3.0


class Silence:
    """How long the other side may still say nothing. Time in which we were stopped is not counted.

    beat() is to be called every second, or more often.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._beat_s = time.monotonic()
        self.heard()

    @property
    def left_s(self) -> float:
        """How long the silence may still last; 0 once it is over."""
        self.beat()
        return max(0.0, self._due_s - self._beat_s)

    def heard(self) -> None:
        """Begin anew."""
        self._due_s = time.monotonic() + self.limit_s

    def beat(self) -> None:
        """Note that we run, and that we did not if the last beat is long past."""
        now_s = time.monotonic()
        if now_s - self._beat_s > STOPPED_SECONDS:
            self._due_s += now_s - self._beat_s
        self._beat_s = now_s
