"""How the ranks of a group on several machines find each other, and what connects them then.

The lead listens where the others were told. Each of them calls it, says where it listens itself,
and is told where all do; then a rank whose stage before is on another machine calls that, and where
a stage is on several machines the first rank on each calls those of the machines before. What a
call is for its Hello says: `gateway` is MEET, STREAM or SUM, `worker` the rank that calls. Calls
are authenticated, and encrypted where the group's are, as those of workers (wire/tcp).
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from backend.config.errors import ModelError
from backend.wire.channel import PeerGone
from backend.wire.control import Meet
from backend.wire.group_shape import GroupShape
from backend.wire.link import Link
from backend.wire.local.ring import RingWriter
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.encryption import lead_context
from backend.wire.tcp.handshake import Hello
from backend.wire.tcp.node_exchange import NodeExchange
from backend.wire.tcp.rank_link import TcpLink
from backend.wire.tcp.sockets import create_listener
from backend.wire.tcp.stream import Stream

MEET, STREAM, SUM = 0, 1, 2
# Ranks of other machines may have to be placed and spawned before they call.
MEET_SECONDS = 300.0
AGAIN_SECONDS = 0.2

_Places = dict[int, tuple[str, int]]
_encode = msgspec.msgpack.Encoder().encode
_decode_place = msgspec.msgpack.Decoder(tuple[str, int]).decode
_decode_places = msgspec.msgpack.Decoder(_Places).decode


@dataclass(slots=True)
class FarLinks:
    """A rank's links to other machines. before, after: to neighbouring stages. lead: to the lead,
    which plans come by. ranks: the lead's to every rank elsewhere. sums: of the first rank of its
    machine, to those of the others of its stage, by their number among them."""

    before: Link | None = None
    after: Link | None = None
    lead: Link | None = None
    ranks: dict[int, Link] = field(default_factory=dict)
    sums: NodeExchange | None = None


class PlanFanOut:
    """The way of a lead's plans: the ring of its machine, and a link to each rank elsewhere."""

    def __init__(self, ring: RingWriter | None, links: list[Link]) -> None:
        self._ring = ring
        self._links = links

    def write(self, payload: bytes) -> bool:
        """Publish a plan to every follower; see PlanWriter."""
        if self._ring is not None and not self._ring.write(payload):
            return False
        for link in self._links:
            link.send(payload)
        return True


def meet(
    rank: int,
    shape: GroupShape,
    epoch: int,
    told: Meet,
    listener: socket.socket | None,
    on_wait: Callable[[], None],
) -> FarLinks:
    """Connect a rank with those of other machines. Waits for all ranks of the group.

    listener: the lead's, where the others call. on_wait: called every second meanwhile, and
    whenever the rank waits for a link. Raises ModelError if others do not come.
    """
    return _Meeting(rank, shape, epoch, told, on_wait).run(listener)


class _Meeting:
    def __init__(
        self,
        rank: int,
        shape: GroupShape,
        epoch: int,
        told: Meet,
        on_wait: Callable[[], None],
    ) -> None:
        self._rank, self._shape, self._epoch = rank, shape, epoch
        self._told, self._on_wait = told, on_wait
        self._called: dict[tuple[int, int], Stream] = {}  # by purpose and rank
        self._until_s = time.monotonic() + MEET_SECONDS

    def run(self, listener: socket.socket | None) -> FarLinks:
        told, shape = self._told, self._shape
        own = listener or create_listener(told.host)
        place = told.host, int(own.getsockname()[1])
        encryption = lead_context(told.certificate, told.key) if told.certificate else None
        secret, incarnation = told.address.secret, told.address.incarnation
        acceptor = Acceptor(own, secret, incarnation, encryption, "rank at")
        links = FarLinks()
        try:
            if self._rank == 0:
                places = self._host(acceptor, place, links)
            else:
                places = self._call_lead(place, links)
            before, after = shape.before(self._rank), shape.after(self._rank)
            if before is not None and before not in shape.local:
                links.before = self._link(self._dial(self._address(places[before]), STREAM))
            if after is not None and after not in shape.local:
                links.after = self._link(self._await_call(acceptor, STREAM, after))
            links.sums = self._meet_stage(acceptor, places)
        finally:
            acceptor.close()
        return links

    def _host(self, acceptor: Acceptor, place: tuple[str, int], links: FarLinks) -> _Places:
        """Hear from all other ranks, and tell them where each listens."""
        shape = self._shape
        others = {n: self._link(self._await_call(acceptor, MEET, n)) for n in range(1, shape.size)}
        places = {0: place, **{n: _decode_place(link.receive()) for n, link in others.items()}}
        for n, link in others.items():
            link.send(_encode(places))
            if n in shape.local:
                link.receive()  # it has read that, and needs no more
                link.close()
            else:
                links.ranks[n] = link
        return places

    def _call_lead(self, place: tuple[str, int], links: FarLinks) -> _Places:
        lead = self._link(self._dial(self._told.address, MEET))
        lead.send(_encode(place))
        places = _decode_places(lead.receive())
        if 0 in self._shape.local:
            lead.send(b"")
            with contextlib.suppress(PeerGone):
                lead.receive()  # it has heard that: what was sent would be lost with our end
            lead.close()
        else:
            links.lead = lead
        return places

    def _meet_stage(self, acceptor: Acceptor, places: _Places) -> NodeExchange | None:
        """Connect the first rank of each machine that this rank's stage is on."""
        leads = self._shape.node_leads(self._rank)
        if len(leads) == 1 or self._rank not in leads:
            return None
        streams: dict[int, Stream] = {}
        for number, rank in enumerate(leads):
            if rank < self._rank:
                streams[number] = self._dial(self._address(places[rank]), SUM)
            elif rank > self._rank:
                streams[number] = self._await_call(acceptor, SUM, rank)
        return NodeExchange(streams, self._on_wait)

    def _link(self, stream: Stream) -> TcpLink:
        return TcpLink(stream, self._on_wait)

    def _address(self, place: tuple[str, int]) -> LeadAddress:
        host, port = place
        return msgspec.structs.replace(self._told.address, host=host, port=port)

    def _dial(self, address: LeadAddress, purpose: int) -> Stream:
        """Call another rank, which may not listen yet."""
        hello = Hello(purpose, self._rank, self._epoch, self._told.address.incarnation)
        while True:
            try:
                return dial(address, hello)
            except DialError as error:
                if error.reason is not None or time.monotonic() > self._until_s:
                    raise ModelError(
                        f"a rank of the group cannot be reached: {error}\n"
                        "nodes of a group must reach each other at any port, see --node-port"
                    ) from error
            self._on_wait()
            time.sleep(AGAIN_SECONDS)

    def _await_call(self, acceptor: Acceptor, purpose: int, rank: int) -> Stream:
        poll = select.poll()
        poll.register(acceptor, select.POLLIN)
        while (stream := self._called.pop((purpose, rank), None)) is None:
            if time.monotonic() > self._until_s:
                raise ModelError(
                    f"rank {rank} has not called within {MEET_SECONDS:g} s\n"
                    "nodes of a group must reach each other at any port"
                )
            if not poll.poll(1000):
                self._on_wait()
            for hello, called in acceptor.take():
                self._called[hello.gateway, hello.worker] = called
        return stream
