"""How long a piece of work takes on a machine that others use as well."""

import time
from collections.abc import Callable

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
    work()
    times: list[float] = []
    while len(times) < least or sum(times) < budget_s:
        before()
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return quiet_quantile(times)
