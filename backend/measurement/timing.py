"""How long a piece of work takes on a machine that others use as well."""

import time
from collections.abc import Callable, Sequence

# A server meets the usual time, not the best. Measured with the quarter's, nearly all speeds were
# predicted too high.
QUIET_QUANTILE = 0.5


def quiet_quantile(times: list[float]) -> float:
    """Return the time that half of them stay below."""
    return sorted(times)[int(QUIET_QUANTILE * (len(times) - 1))]


def seconds_of(
    work: Callable[[], object],
    budget_s: float = 0.1,
    least: int = 5,
    before: Callable[[], object] = lambda: None,
) -> float:
    """Run the work over and over, `least` times or longer than the budget; return its usual
    time. before: runs before each, and does not count."""
    [seconds] = seconds_of_each([work], budget_s, least, before)
    return seconds


def seconds_of_each(
    works: Sequence[Callable[[], object]],
    budget_s: float = 0.1,
    least: int = 5,
    before: Callable[[], object] = lambda: None,
) -> list[float]:
    """Run several works in turns, as seconds_of() does one; return the usual time of each.

    A slow moment of the machine meets all of them, so that differences are less noisy than those of
    times that were measured one after the other. budget_s: of each.
    """
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    while len(times[0]) < least or sum(map(sum, times)) < budget_s * len(works):
        for work, taken in zip(works, times, strict=True):
            before()
            started = time.perf_counter()
            work()
            taken.append(time.perf_counter() - started)
    return [quiet_quantile(taken) for taken in times]
