"""What the supervisor and the agent of a group on another node say to each other.

The supervisor says Ping, DetachWorker, Retire, Renew, MeetAt, WhatRan, Leave and Kill; the agent
says Placed, Meets, Ran, RankNews, GroupIsReady, Look, Said, Faulted and Ended. frame_stream.py
carries them.
"""

import msgspec

from backend.settings import EngineSettings
from backend.wire.control import Budget, Listen, Progress
from backend.wire.local.heartbeat import Batch, Load
from backend.wire.messages import Ready
from gateway.nodes.build import build_id
from gateway.supervision.control_messages import RankView
from gateway.supervision.fault import Fault


class LaunchOrder(msgspec.Struct, frozen=True):
    """What an agent is started with.

    home: (host, port) where it calls; secret: what both sides know, never sent. number, epoch: of
    the group. listen: by which secret and certificate workers are let in, and host, port: where
    (the address that reaches home, if empty; any free port, if 0). hang_s: silence after which
    either side is lost. model_name: what the model was asked for by; model_digest: of its files.
    part: of a group on several nodes, which part this is.
    """

    home: tuple[str, int]
    secret: bytes
    number: int
    epoch: int
    engine: EngineSettings
    first_rank: int
    group_name: str
    listen: Listen
    hang_s: float
    host: str = ""
    port: int = 0
    model_name: str = ""
    model_digest: str = ""
    part: int = 0

    def __repr__(self) -> str:
        """Leave the secrets out, wherever this may be logged."""
        return f"LaunchOrder(group {self.number}, epoch {self.epoch}, home={self.home})"


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """The supervisor lives."""


class DetachWorker(msgspec.Struct, frozen=True, array_like=True, tag="detach"):
    """A worker is gone: the lead forgets its sequences."""

    worker: int
    epoch: int


class Retire(msgspec.Struct, frozen=True, array_like=True, tag="retire"):
    """The group is about to stop: its lead grants workers of other gateways nothing more."""


class MeetAt(msgspec.Struct, frozen=True, array_like=True, tag="meet_at"):
    """Where the ranks of a group on several nodes meet: host, port; to all parts but the first."""

    host: str
    port: int


class Renew(msgspec.Struct, frozen=True, array_like=True, tag="renew"):
    """Workers that come from now on are met with another certificate and key, PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        """Leave the key out, wherever this may be logged."""
        return "Renew()"


class WhatRan(msgspec.Struct, frozen=True, array_like=True, tag="what_ran"):
    """A rank elsewhere died in a step: what was in it? To the part that has the lead.

    step: 0 for whatever the lead is at.
    """

    step: int


class Leave(msgspec.Struct, frozen=True, array_like=True, tag="leave"):
    """Have every rank exit, as if they were asked on their own machine."""


class Kill(msgspec.Struct, frozen=True, array_like=True, tag="kill"):
    """End every rank now."""


class Placed(msgspec.Struct, frozen=True, array_like=True, tag="placed"):
    """The agent has started the ranks. node: the name it goes by; ranks: (title, pid)."""

    node: str
    ranks: list[tuple[str, int]]


class Meets(msgspec.Struct, frozen=True, array_like=True, tag="meets"):
    """The lead of a group on several nodes listens for the other ranks: host, port."""

    host: str
    port: int


class Ran(msgspec.Struct, frozen=True, array_like=True, tag="ran"):
    """What the lead had named of the step that was asked for."""

    batch: Batch | None


class RankNews(msgspec.Struct, frozen=True, array_like=True, tag="news"):
    """A rank has got on with its start."""

    title: str
    news: Progress | Budget


class GroupIsReady(msgspec.Struct, frozen=True, array_like=True, tag="group_ready"):
    """The group takes work. host, port: where its lead listens for workers."""

    ready: Ready
    host: str
    port: int


class Look(msgspec.Struct, frozen=True, array_like=True, tag="look"):
    """The node lives, and so do its ranks, as far as this says."""

    ranks: list[RankView]
    load: Load


class Said(msgspec.Struct, frozen=True, array_like=True, tag="said"):
    """A line of the agent's log, with what ranks write to standard error. level: logging's."""

    level: int
    text: str


class Faulted(msgspec.Struct, frozen=True, array_like=True, tag="faulted"):
    """The group is over, though some of its processes may still be there."""

    fault: Fault


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """The last of its processes is gone. fault: as it is known by now, stacks included."""

    fault: Fault | None = None


ToAgent = Ping | DetachWorker | Retire | Renew | MeetAt | WhatRan | Leave | Kill
FromAgent = Placed | Meets | Ran | RankNews | GroupIsReady | Look | Said | Faulted | Ended

encode = msgspec.msgpack.Encoder().encode
decode_to_agent = msgspec.msgpack.Decoder(ToAgent).decode
decode_from_agent = msgspec.msgpack.Decoder(FromAgent).decode
_decode_order = msgspec.msgpack.Decoder(LaunchOrder).decode


class OtherBuild(Exception):
    """An order is of other code than this; the message says of which."""


def encode_order(order: LaunchOrder) -> bytes:
    """Return an order behind the build of who gives it, which another build can read, too."""
    return build_id().encode() + b"\n" + encode(order)


def decode_order(data: bytes) -> LaunchOrder:
    """Return an order that this very code has encoded. Raises OtherBuild."""
    build, _, order = data.partition(b"\n")
    if build != build_id().encode():
        raise OtherBuild(build.decode(errors="replace"))
    return _decode_order(order)
