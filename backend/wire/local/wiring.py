"""What connects the ranks of a group with each other, and with the supervisor that watches them.

GroupWiring (backend/wire/control.py) brings each rank its part, as one flat list of descriptors:

    page                             of heartbeats; a rank that is alone is sent no more
    exchange                         memory, a bell to each other rank, a bell from each
    meeting                          memory where ranks on devices find each other
    plans, to the lead               memory, a doorbell for each follower, a space of each
    plans, to a follower             memory, its own doorbell and space
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from backend.wire.local.rank_exchange import RankExchange, RankExchangeFds
from backend.wire.local.ring import RingFds, create_ring

# A plan of 128 sequences, one of them of 128k tokens, in blocks of 32 is 2 MiB in each of maybe
# seven cache groups; two can be under way.
PLAN_RING_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class WiringFds:
    """One rank's part. What follows the page is None in a group of one."""

    page: int
    exchange: RankExchangeFds | None = None
    plans: RingFds | None = None
    meeting: int | None = None

    def pack(self) -> tuple[int, ...]:
        """Return the descriptors in the order in which unpack() takes them."""
        exchange = self.exchange.all() if self.exchange is not None else ()
        plans = self.plans.all() if self.plans is not None else ()
        meeting = (self.meeting,) if self.meeting is not None else ()
        return (self.page, *exchange, *meeting, *plans)

    @classmethod
    def unpack(cls, fds: Sequence[int], *, rank: int, size: int) -> "WiringFds":
        """Name what pack() made for this rank of `size`. Raises ValueError if the number is off."""
        num_others = size - 1
        num_readers = num_others if rank == 0 else 1
        expected = 1 if size == 1 else 4 + 2 * num_others + 2 * num_readers
        if len(fds) != expected:
            raise ValueError(f"rank {rank} of {size} got {len(fds)} descriptors, not {expected}")
        left = iter(fds)
        page = next(left)
        if size == 1:
            return cls(page)
        exchange = RankExchangeFds(
            memory=next(left),
            out=tuple(islice(left, num_others)),
            into=tuple(islice(left, num_others)),
        )
        meeting = next(left)
        plans = RingFds(
            memory=next(left),
            doorbells=tuple(islice(left, num_readers)),
            spaces=tuple(islice(left, num_readers)),
        )
        return cls(page, exchange, plans, meeting)


class GroupFds:
    """What the supervisor makes for one incarnation of a group and hands out."""

    def __init__(self, page: int, size: int) -> None:
        """page: stays the caller's."""
        self._page = page
        self._exchange = RankExchange(size) if size > 1 else None
        self._plans = create_ring(PLAN_RING_BYTES, size - 1) if size > 1 else None
        # It grows with what is written there, a few KiB.
        self._meeting = os.memfd_create("unisono-meeting", os.MFD_CLOEXEC) if size > 1 else None

    def view(self, rank: int) -> WiringFds:
        """Return the descriptors that one rank needs."""
        if self._exchange is None or self._plans is None:
            return WiringFds(self._page)
        plans = self._plans if rank == 0 else self._plans.view(rank - 1)
        return WiringFds(self._page, self._exchange.view(rank), plans, self._meeting)

    def close(self) -> None:
        """Drop the supervisor's copies, so that each rank sees the others' deaths."""
        if self._exchange is not None and self._plans is not None:
            self._exchange.close()
            self._plans.close()
        if self._meeting is not None:
            os.close(self._meeting)
