"""When a child that died is started again, and when trying again is not going to help."""

from collections import deque
from dataclasses import dataclass, field

BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


@dataclass(slots=True)
class Restarts:
    """Counts the deaths of one child over all its restarts.

    limit: restarts allowed in any window of window_s seconds.
    """

    limit: int
    window_s: float
    num_deaths: int = 0
    _recent: deque[float] = field(default_factory=deque)

    def note_death(self, now: float) -> bool:
        """Count a death at `now`, in seconds; False once there were too many to go on."""
        self.num_deaths += 1
        self._recent.append(now)
        while self._recent[0] < now - self.window_s:
            self._recent.popleft()
        return len(self._recent) <= self.limit

    @property
    def delay_s(self) -> float:
        """How long to wait after the last death."""
        return BACKOFF_SECONDS[min(len(self._recent), len(BACKOFF_SECONDS)) - 1]

    def forgive(self) -> None:
        """Forget the recent deaths: somebody has asked for another try."""
        self._recent.clear()
