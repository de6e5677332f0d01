"""The line between the supervisor and each child: one SOCK_SEQPACKET pair a child.

The supervisor says GroupWiring, Meet, Observe, NameGroups, Attach, Listen, Dial, Detach, Quiesce,
Retire, Renew, Reload, Ping, Drain, Stop, Place and Displace; the child says Progress, Budget, Pong,
Ready, Failed, Serving, Quiet, Cut, Joined and Placement. Packets keep their borders, carry
descriptors, and end-of-file tells a child that the supervisor is gone.

    GroupWiring to a rank carries   wiring.WiringFds: the heartbeat page, the ranks' exchange,
                                    where those on devices meet, the ring of plans
    Attach to a worker or a lead    channel.ChannelEnd: the request ring, an end of the token pipe
    Listen to a lead carries        a listening socket
    Meet to a lead carries          a listening socket
    Observe carries                 a page of memory of the supervisor's, and one of each worker
"""

import socket

import msgspec

from backend.wire.local.heartbeat import Phase
from backend.wire.messages import Failed, Ready, SeqId
from backend.wire.tcp.address import LeadAddress, Secret

MAX_PACKET_BYTES = 1 << 16
MAX_FDS = 253  # the kernel's SCM_MAX_FD


class GroupWiring(msgspec.Struct, frozen=True, array_like=True, tag="wiring"):
    """What connects a rank to the others of its group, and shows the supervisor that it lives."""


class Observe(msgspec.Struct, frozen=True, array_like=True, tag="observe"):
    """The pages of figures (gateway/telemetry); the receiver writes that of `worker`."""

    worker: int


class NameGroups(msgspec.Struct, frozen=True, array_like=True, tag="name_groups"):
    """What all groups are called that there are, by number; to workers, before any is attached."""

    names: dict[int, str]


class Attach(msgspec.Struct, frozen=True, array_like=True, tag="attach"):
    """A new channel between one incarnation of a worker and one of a group."""

    worker: int
    replica: int
    epoch: int


class Listen(msgspec.Struct, frozen=True, array_like=True, tag="listen"):
    """Take channels from other machines, at the socket that comes along; to a lead.

    incarnation: the group's epoch. certificate, key: PEM, for streams that are encrypted, or empty.
    """

    secret: Secret
    incarnation: int
    certificate: str = ""
    key: str = ""

    def __repr__(self) -> str:
        """Leave secret and key out, wherever this may be logged."""
        return f"Listen(incarnation={self.incarnation})"


class Meet(msgspec.Struct, frozen=True, array_like=True, tag="meet"):
    """Connect with the ranks of the group that are on other machines; to every rank of such a one.

    address: where the lead listens for the others; its own rank 0 is sent the socket along. host:
    this machine's address, where ranks of others call. certificate, key: as in Listen.
    """

    address: LeadAddress
    host: str
    certificate: str = ""
    key: str = ""

    def __repr__(self) -> str:
        """Leave secret and key out, wherever this may be logged."""
        return f"Meet({self.address}, host={self.host})"


class Dial(msgspec.Struct, frozen=True, array_like=True, tag="dial"):
    """Make a new channel to the lead of a group on another machine; to a worker.

    gateway: 0 if the group is ours, so that its lead knows the worker by its number; else a random
    number above that tells the workers of several gateways apart. worker, replica, epoch: as in
    Attach.
    """

    gateway: int
    worker: int
    replica: int
    epoch: int
    address: LeadAddress


class Detach(msgspec.Struct, frozen=True, array_like=True, tag="detach"):
    """The other side of a channel has died; forget it.

    suspects: to a worker, those of its sequences that were new or changed in the group's last step.
    """

    worker: int
    replica: int
    epoch: int
    suspects: list[SeqId] = []


class Quiesce(msgspec.Struct, frozen=True, array_like=True, tag="quiesce"):
    """Hand a group no new work; say Quiet once it holds none of yours. It is about to stop."""

    replica: int
    epoch: int


class Retire(msgspec.Struct, frozen=True, array_like=True, tag="retire"):
    """Grant workers of other gateways nothing more: the group is about to stop; to a lead."""


class Renew(msgspec.Struct, frozen=True, array_like=True, tag="renew"):
    """Encrypt new connections by another certificate and key, PEM; to a lead."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        """Leave the key out, wherever this may be logged."""
        return "Renew()"


class Reload(msgspec.Struct, frozen=True, array_like=True, tag="reload"):
    """Read the files of keys and certificates again; to workers."""


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """Ask whether a worker's event loop turns."""


class Drain(msgspec.Struct, frozen=True, array_like=True, tag="drain"):
    """Take no new work, finish what is there, then exit; give up after `seconds`."""

    seconds: float


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """Exit now with status 0."""


class Place(msgspec.Struct, frozen=True, array_like=True, tag="place"):
    """Find a node for each part of a group and start its agent there; to a placer.

    orders: for the agents (gateway/nodes/node_messages.py), with secrets. node: the only one that
    will do, "" for any.
    """

    number: int
    epoch: int
    node: str
    orders: tuple[bytes, ...]

    def __repr__(self) -> str:
        """Leave the order out, wherever this may be logged."""
        return f"Place(number={self.number}, epoch={self.epoch}, node={self.node!r})"


class Displace(msgspec.Struct, frozen=True, array_like=True, tag="displace"):
    """End a group's agent and give back its place; to a placer."""

    number: int
    epoch: int


class Joined(msgspec.Struct, frozen=True, array_like=True, tag="joined"):
    """A placer is in its cluster. host: this machine's address there. cluster: in a few words."""

    host: str
    cluster: str


class Placement(msgspec.Struct, frozen=True, array_like=True, tag="placement"):
    """What has become of an order. turn: "waits", "started" or "failed"; text: why, or where."""

    number: int
    epoch: int
    turn: str
    text: str


class Progress(msgspec.Struct, frozen=True, array_like=True, tag="progress"):
    """How far a rank's start-up is. phase: LOAD or WARM_UP; fraction: 0 to 1 of it."""

    rank: int
    phase: Phase
    fraction: float


class Pong(msgspec.Struct, frozen=True, array_like=True, tag="pong"):
    """The event loop turns."""


class Budget(msgspec.Struct, frozen=True, array_like=True, tag="budget"):
    """What a rank is about to take of the memory that is free for it, in bytes.

    packed_bytes: weights in few bits, whose dense form may be there as well. expanded: a line for
    each kind of weight that the file has in few bits and the rank has not. state_bytes: of what
    layers keep of fixed size. notes: what else the operator should know, a line each.
    """

    rank: int
    weight_bytes: int
    packed_bytes: int
    kv_bytes: int
    activation_bytes: int
    free_bytes: int
    expanded: tuple[str, ...] = ()
    state_bytes: int = 0
    notes: tuple[str, ...] = ()


class Serving(msgspec.Struct, frozen=True, array_like=True, tag="serving"):
    """A worker takes requests for a group: it has read the group's Ready."""

    worker: int
    replica: int


class Quiet(msgspec.Struct, frozen=True, array_like=True, tag="quiet"):
    """A worker has no sequence left in a group that was to be quiesced, and sends it none."""

    worker: int
    replica: int
    epoch: int


class Cut(msgspec.Struct, frozen=True, array_like=True, tag="cut"):
    """A worker's channel has ended or is garbled, and nobody has told it of a death."""

    worker: int
    replica: int
    epoch: int


ToChild = (
    GroupWiring
    | Meet
    | Observe
    | NameGroups
    | Attach
    | Listen
    | Dial
    | Detach
    | Quiesce
    | Retire
    | Renew
    | Reload
    | Ping
    | Drain
    | Stop
    | Place
    | Displace
)
ToSupervisor = (
    Progress | Budget | Pong | Ready | Failed | Serving | Quiet | Cut | Joined | Placement
)

_encode = msgspec.msgpack.Encoder().encode
_decode_to_child = msgspec.msgpack.Decoder(ToChild).decode
_decode_to_supervisor = msgspec.msgpack.Decoder(ToSupervisor).decode


class ControlClosed(Exception):
    """The other end of the line is gone."""


def create_control() -> tuple[socket.socket, socket.socket]:
    """Return (supervisor's end, child's end), both non-blocking."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


class SupervisorLine:
    """The supervisor's end. Owns the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: ToChild, fds: tuple[int, ...] = ()) -> None:
        """Send one message; the kernel copies the descriptors. Raises ControlClosed.

        A child so stuck that its socket buffer is full is as good as gone.
        """
        try:
            socket.send_fds(self._sock, [_encode(message)], fds)
        except OSError as error:
            raise ControlClosed(str(error)) from error

    def receive(self) -> ToSupervisor | None:
        """Return the next message, None when there is none. Raises ControlClosed."""
        packet, _ = _receive(self._sock, 0)
        return None if packet is None else _decode_to_supervisor(packet)

    def close(self) -> None:
        self._sock.close()


class ChildLine:
    """A child's end. Owns the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: ToSupervisor) -> None:
        """Send one message. Raises ControlClosed."""
        try:
            self._sock.send(_encode(message))
        except OSError as error:
            raise ControlClosed(str(error)) from error

    def receive(self) -> tuple[ToChild, list[int]] | None:
        """Return the next message and its descriptors, None when there is none.

        The caller owns the descriptors. Raises ControlClosed.
        """
        packet, fds = _receive(self._sock, MAX_FDS)
        return None if packet is None else (_decode_to_child(packet), fds)


def _receive(sock: socket.socket, max_fds: int) -> tuple[bytes | None, list[int]]:
    try:
        packet, fds, _, _ = socket.recv_fds(sock, MAX_PACKET_BYTES, max_fds)
    except BlockingIOError:
        return None, []
    except OSError as error:
        raise ControlClosed(str(error)) from error
    if not packet:
        raise ControlClosed("end of file")
    return packet, fds
