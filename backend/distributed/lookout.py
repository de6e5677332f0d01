"""How a rank looks out for the others before it sleeps on their bells.

    looks       for SPIN_NS: ranks mostly come within microseconds of each other
    stands by   up to STANDBY_NS, giving its core to whoever wants it, as long as cores are free
    sleeps      after that

A rank that sleeps is woken on the core of who wakes it wherever no other core is idle, and beside
a gateway and its clients none is: then ranks share a core though there is one for each, and a step
takes as long as all of them together. One that is always ready to run has a core of its own. But
where others want the cores, who stands by lets them have a whole turn, and gets none sooner for
having waited, as sleepers do: so a rank that has waited long for its core goes back to sleeping.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# As long as a kernel's threads look for work (native/threads.c).
SPIN_NS = 50_000
# Longer than what a step of the gateway takes of a core, some 0.3 ms.
STANDBY_NS = 1_000_000
_LOOKS_EACH_TIME = 16
# How often the kernel is asked how long we waited for a core, and what part of the time is a crowd.
# Two ranks on two cores: beside a gateway and its client 0.02 to 0.18 (of SmolLM2; more of a model
# of next to no weights), with one more program that wants a core mostly 0.46 to 0.81.
CHECK_NS = 100_000_000
CROWDED_SHARE = 0.4
# In a crowd nobody stands by for so long, each time twice as long.
FIRST_REST_NS, LAST_REST_NS = 1_000_000_000, 64_000_000_000
_RUN_QUEUE = Path("/proc/thread-self/schedstat")


class Lookout:
    """One rank's way to wait for others' numbers to reach its own."""

    def __init__(
        self,
        counts: Sequence[int],
        places: Sequence[int],
        *,
        delay_ns: Callable[[], int | None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """counts, places: where the others' numbers stand. delay_ns: how long this thread has
        waited for a core, ever; None where the kernel does not say."""
        self._counts, self._places = counts, places
        self._delay_ns = delay_ns or _delay_ns
        self._clock = clock
        self._rest_ns = FIRST_REST_NS
        self._since_ns = clock()
        self._since_delay_ns = self._delay_ns()
        self._next_check_ns = self._since_ns + CHECK_NS
        self.stands_by = self._since_delay_ns is not None

    def wait(self, wanted: int) -> None:
        """Return once all the others have come so far, or it is time to sleep."""
        now_ns = self._clock()
        if now_ns > self._next_check_ns:
            self._check(now_ns)
        for place in self._places:
            if not self._has_come(place, wanted, now_ns):
                return

    def _has_come(self, place: int, wanted: int, began_ns: int) -> bool:
        counts, clock = self._counts, self._clock
        end_ns = began_ns + SPIN_NS
        while counts[place] < wanted:
            for _ in range(_LOOKS_EACH_TIME):
                if counts[place] >= wanted:
                    return True
            if clock() > end_ns:
                return self.stands_by and self._stand_by(place, wanted, began_ns + STANDBY_NS)
        return True

    def _stand_by(self, place: int, wanted: int, end_ns: int) -> bool:
        counts, clock = self._counts, self._clock
        while counts[place] < wanted and clock() < end_ns:
            os.sched_yield()
        return counts[place] >= wanted

    def _check(self, now_ns: int) -> None:
        """Find out whether this rank had to wait for its core."""
        delay_ns = self._delay_ns()
        if delay_ns is None or self._since_delay_ns is None:
            self.stands_by = False
            self._next_check_ns = now_ns + LAST_REST_NS
            return
        waited_ns = delay_ns - self._since_delay_ns
        is_crowded = waited_ns > CROWDED_SHARE * (now_ns - self._since_ns)
        if self.stands_by and is_crowded:
            self.stands_by, pause_ns = False, self._rest_ns
            self._rest_ns = min(2 * self._rest_ns, LAST_REST_NS)
        else:
            if self.stands_by:
                self._rest_ns = max(self._rest_ns // 2, FIRST_REST_NS)
            self.stands_by, pause_ns = True, CHECK_NS
        self._next_check_ns = now_ns + pause_ns
        self._since_ns, self._since_delay_ns = now_ns, delay_ns


def _delay_ns() -> int | None:
    """Return how long this thread has waited in run queues, as the kernel counts."""
    with suppress(OSError, ValueError, IndexError):
        return int(_RUN_QUEUE.read_text().split()[1])
    return None
