"""How fast one thread reads memory just now: on a machine that others use it changes by the minute.

`unisono calibrate` keeps what it was then, and a prediction for this machine compares. Some 40 ms.
"""

import time

import numpy as np

# More than the caches of a core hold.
PROBE_BYTES = 64 << 20
PASSES = 5


def memory_speed(num_bytes: int = PROBE_BYTES) -> float:
    """Return bytes/s, of the middle one of some passes."""
    buffer = np.ones(num_bytes // 8, np.uint64)
    times = []
    for _ in range(PASSES):
        started = time.perf_counter()
        np.bitwise_or.reduce(buffer)
        times.append(time.perf_counter() - started)
    return buffer.nbytes / sorted(times)[PASSES // 2]
