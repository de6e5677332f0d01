"""What connects the ranks of a group with each other, and with the supervisor that watches them.

GroupWiring (backend/wire/control.py) brings each rank its part, as one flat list of descriptors:

    page                             of heartbeats; a rank that is alone is sent no more
    exchange                         of its stage: memory, a bell to each other rank, a bell from
                                     each
    meeting                          memory where its stage's ranks on devices find each other
    plans, to the lead               memory, a doorbell for each follower, a space of each
    plans, to a follower             memory, its own doorbell and space
    before, after                    links to the neighbouring stages, a ring each way: the one it
                                     writes, the one it reads
    drawn                            from the last stage to the lead: the ring of a step's tokens

Only what is between ranks of this machine.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from backend.wire.group_shape import GroupShape
from backend.wire.local.rank_exchange import RankExchange, RankExchangeFds
from backend.wire.local.ring import RingFds, create_ring
from backend.wire.local.ring_link import BACK_BYTES, LinkFds, LinkRings

# A plan of 128 sequences, one of them of 128k tokens, in blocks of 32 is 2 MiB in each of maybe
# seven cache groups; two can be under way, and one more for each stage after the first.
PLAN_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class WiringFds:
    """One rank's part; None where there is nothing to connect."""

    page: int
    exchange: RankExchangeFds | None = None
    plans: RingFds | None = None
    before: LinkFds | None = None
    after: LinkFds | None = None
    drawn: LinkFds | None = None
    meeting: int | None = None

    def pack(self) -> tuple[int, ...]:
        """Return the descriptors in the order in which unpack() takes them."""
        parts = (self.exchange, self.plans, self.before, self.after, self.drawn)
        meeting = (self.meeting,) if self.meeting is not None else ()
        others = (fd for part in parts if part is not None for fd in part.all())
        return (self.page, *meeting, *others)

    @classmethod
    def unpack(cls, fds: Sequence[int], rank: int, shape: GroupShape) -> "WiringFds":
        """Name what pack() made for this rank. Raises ValueError if the number is off."""
        left = iter(fds)
        expected = len(_Parts(rank, shape))
        if len(fds) != expected:
            raise ValueError(
                f"rank {rank} of {shape.size} got {len(fds)} descriptors, not {expected}"
            )
        parts = _Parts(rank, shape)
        page = next(left)
        exchange = plans = before = after = drawn = meeting = None
        if parts.num_peers:
            meeting = next(left)
            exchange = RankExchangeFds(
                memory=next(left),
                out=tuple(islice(left, parts.num_peers)),
                into=tuple(islice(left, parts.num_peers)),
            )
        if parts.num_readers:
            plans = _ring(left, parts.num_readers)
        if parts.has_before:
            before = LinkFds(_ring(left), _ring(left))
        if parts.has_after:
            after = LinkFds(_ring(left), _ring(left))
        if parts.tells:
            drawn = LinkFds(out=_ring(left))
        elif parts.is_told:
            drawn = LinkFds(into=_ring(left))
        return cls(page, exchange, plans, before, after, drawn, meeting)


class _Parts:
    """Which parts a rank gets; the length is that of their descriptors."""

    def __init__(self, rank: int, shape: GroupShape) -> None:
        local = shape.local
        self.num_peers = len(shape.peers(rank)) - 1
        self.num_readers = (len(local) - 1 if rank == 0 else 1) if _has_plans(shape) else 0
        self.has_before = shape.before(rank) in local
        self.has_after = shape.after(rank) in local
        has_drawn = shape.pp > 1 and 0 in local and shape.teller in local
        self.tells = has_drawn and rank == shape.teller
        self.is_told = has_drawn and rank == 0

    def __len__(self) -> int:
        exchange = 2 + 2 * self.num_peers if self.num_peers else 0
        plans = 1 + 2 * self.num_readers if self.num_readers else 0
        links = 6 * (self.has_before + self.has_after) + 3 * (self.tells or self.is_told)
        return 1 + exchange + plans + links


def _has_plans(shape: GroupShape) -> bool:
    return 0 in shape.local and len(shape.local) > 1


def _ring(fds: Iterator[int], num_readers: int = 1) -> RingFds:
    return RingFds(
        memory=next(fds),
        doorbells=tuple(islice(fds, num_readers)),
        spaces=tuple(islice(fds, num_readers)),
    )


class GroupFds:
    """What the supervisor makes for one incarnation of a group's ranks here, and hands out."""

    def __init__(self, page: int, shape: GroupShape) -> None:
        """page: stays the caller's."""
        self._page = page
        self._shape = shape
        local = shape.local
        stages = dict.fromkeys(map(shape.peers, local))
        self._exchanges = {
            peers.start: RankExchange(len(peers)) for peers in stages if len(peers) > 1
        }
        # They grow with what is written there, a few KiB.
        self._meetings = {
            start: os.memfd_create("unisono-meeting", os.MFD_CLOEXEC) for start in self._exchanges
        }
        plan_bytes = PLAN_BYTES * (1 + shape.pp)
        self._plans = create_ring(plan_bytes, len(local) - 1) if _has_plans(shape) else None
        self._links = {rank: LinkRings() for rank in local if shape.after(rank) in local}
        self._drawn = None
        if shape.pp > 1 and 0 in local and shape.teller in local:
            self._drawn = LinkRings(BACK_BYTES, back_bytes=0)

    def view(self, rank: int) -> WiringFds:
        """Return the descriptors that one rank needs."""
        parts, shape = _Parts(rank, self._shape), self._shape
        exchange = plans = before = after = drawn = meeting = None
        if parts.num_peers:
            peers = shape.peers(rank)
            exchange = self._exchanges[peers.start].view(rank - peers.start)
            meeting = self._meetings[peers.start]
        if self._plans is not None:
            plans = self._plans if rank == 0 else self._plans.view(rank - 1)
        if parts.has_before:
            before = self._links[rank - shape.tp].second
        if parts.has_after:
            after = self._links[rank].first
        if self._drawn is not None and parts.tells:
            drawn = self._drawn.first
        if self._drawn is not None and parts.is_told:
            drawn = self._drawn.second
        return WiringFds(self._page, exchange, plans, before, after, drawn, meeting)

    def close(self) -> None:
        """Drop the supervisor's copies, so that each rank sees the others' deaths."""
        for exchange in self._exchanges.values():
            exchange.close()
        for link in self._links.values():
            link.close()
        if self._plans is not None:
            self._plans.close()
        if self._drawn is not None:
            self._drawn.close()
        for meeting in self._meetings.values():
            os.close(meeting)
