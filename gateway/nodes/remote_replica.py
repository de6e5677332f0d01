"""The ranks of a group on another node, as supervision sees them: through their agent."""

from dataclasses import dataclass

from backend.wire.control import ControlClosed, Dial
from backend.wire.local.heartbeat import Load
from backend.wire.offer import Offer
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.encryption import pinned
from gateway.nodes.frame_stream import FrameStream
from gateway.nodes.node_messages import (
    DetachWorker,
    Kill,
    Leave,
    MeetAt,
    Renew,
    Retire,
    ToAgent,
    WhatRan,
    encode,
)
from gateway.supervision.control_messages import RankView


@dataclass(frozen=True, slots=True)
class RemoteRank:
    """A rank's process on its node."""

    title: str
    pid: int


class RemoteReplica:
    """Knows what the agent last said; what it is told goes to the agent.

    node: where it runs, "" before it has been placed. views: what each rank did when last seen.
    """

    def __init__(self, number: int, epoch: int) -> None:
        self.epoch = epoch
        self.ranks: list[RemoteRank] = []
        self.node = ""
        self.views: list[RankView] = []
        self.load = Load()
        self._number = number
        self._stream: FrameStream | None = None
        self._address: LeadAddress | None = None

    def called(self, stream: FrameStream) -> None:
        """Talk to the agent by this stream from now on."""
        self._stream = stream

    def listens(self, address: LeadAddress) -> None:
        """Send workers there."""
        self._address = address

    def connect(self, worker: int, epoch: int) -> Offer:
        """Return what a worker must be sent: where the lead listens. Raises ControlClosed."""
        if self._address is None or self._stream is None:
            raise ControlClosed("the lead does not listen yet")
        return Offer(Dial(0, worker, self._number, epoch, self._address))

    def detach(self, worker: int, epoch: int) -> None:
        """Tell the lead that a worker is gone. Raises ControlClosed."""
        self._tell(DetachWorker(worker, epoch))

    def retire(self) -> None:
        """Have the lead grant workers of other gateways nothing more. Raises ControlClosed."""
        self._tell(Retire())

    def renew(self, certificate: str, key: str) -> None:
        """See Replica. Raises ControlClosed."""
        self._tell(Renew(certificate, key))
        if self._address is not None:
            self._address = pinned(self._address, certificate)

    def meet(self, message: MeetAt) -> None:
        """Tell where the group's ranks meet, if an agent has called."""
        if self._stream is not None:
            self._tell(message)

    def ask_what_ran(self, step: int) -> None:
        """Ask what a step was. Raises ControlClosed."""
        self._tell(WhatRan(step))

    def stop(self) -> None:
        """Ask every rank to exit; the agent kills those that cannot hear."""
        self._tell(Leave())

    def kill(self) -> None:
        """End every rank, whatever it is doing."""
        if self._stream is not None:
            self._tell(Kill())

    def lost(self) -> None:
        """The agent is gone, or might as well be; one that still lives hears that it is."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _tell(self, message: ToAgent) -> None:
        if self._stream is None:
            raise ControlClosed("no agent has called, or it is lost")
        self._stream.send(encode(message))
