"""The descriptors through which ranks of a group exchange numbers; `distributed/shm.py` uses them.

memory   for each rank two buffers of slot_bytes, used in turn; behind all of them for each rank
         a line of COUNTER_BYTES, whose first eight count its calls, of use to who looks before it
         waits for a bell
bells    one eventfd for each ordered pair of ranks; the first rings it for the second
"""

import os
from dataclasses import dataclass

from backend.wire.local.ring import create_memory

# A decode step of 64 rows of 2,048 in fp32 is 512 KiB; larger sums go in pieces.
SLOT_BYTES = 1 << 20
# A line of a cache: no rank's count is written where another's is looked at.
COUNTER_BYTES = 64


@dataclass(frozen=True, slots=True)
class RankExchangeFds:
    """One rank's view. out[i] is rung for the i-th other rank, into[i] is rung by it."""

    memory: int
    out: tuple[int, ...]
    into: tuple[int, ...]

    def all(self) -> tuple[int, ...]:
        return (self.memory, *self.out, *self.into)


class RankExchange:
    """What the supervisor makes for one incarnation of a group and hands out."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = create_memory("unisono-exchange", size * (2 * SLOT_BYTES + COUNTER_BYTES))
        # Blocking, each take lowers the count by one: a bell is waited for once a call.
        flags = os.EFD_CLOEXEC | os.EFD_SEMAPHORE
        pairs = [(i, j) for i in range(size) for j in range(size) if i != j]
        self._bells = {pair: os.eventfd(0, flags) for pair in pairs}

    def view(self, rank: int) -> RankExchangeFds:
        """Return the descriptors that one rank needs."""
        others = [other for other in range(self._size) if other != rank]
        return RankExchangeFds(
            self._memory,
            tuple(self._bells[rank, other] for other in others),
            tuple(self._bells[other, rank] for other in others),
        )

    def close(self) -> None:
        for fd in (self._memory, *self._bells.values()):
            os.close(fd)
