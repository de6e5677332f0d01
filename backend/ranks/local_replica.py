"""A group of tensor-parallel ranks on this machine: spawn, attach, stop. Knows no torch.

The spawn context is the standard library's, the very object torch.multiprocessing hands out; a
rank imports torch, this process never does.
"""

import contextlib
import os
import socket
from dataclasses import dataclass

from backend.settings import EngineSettings
from backend.wire.control import (
    Attach,
    ControlClosed,
    Detach,
    Dial,
    GroupWiring,
    Meet,
    Renew,
    Retire,
    Stop,
)
from backend.wire.group_shape import GroupShape
from backend.wire.local.channel import ChannelFds, create_channel
from backend.wire.local.child import Child
from backend.wire.local.heartbeat import HeartbeatPage, Load, num_batches
from backend.wire.local.wiring import GroupFds
from backend.wire.offer import Offer
from backend.wire.tcp.encryption import pinned
from backend.wire.tcp.listening import Listening

# Where the ranks of a group on several machines meet, and the lead's socket.
Meeting = tuple[Meet, socket.socket]


@dataclass(frozen=True, slots=True)
class RankSpawn:
    """What a rank is told at spawn."""

    replica: int
    rank: int
    epoch: int
    settings: EngineSettings
    first_rank: int = 0
    part: int = 0

    @property
    def shape(self) -> GroupShape:
        """The group's, with the ranks that are on this machine."""
        told = self.settings
        return GroupShape.part(told.tp, told.pp, told.nodes, self.part)


class LocalReplica:
    """The ranks of a group as children of this process, and their lines."""

    def __init__(
        self,
        replica: int,
        epoch: int,
        settings: EngineSettings,
        first_rank: int = 0,
        listening: Listening | None = None,
        part: int = 0,
        meeting: Meeting | None = None,
    ) -> None:
        """settings: this group's. first_rank: how many ranks the groups before it have.
        listening: where its lead takes workers over TCP; its socket is the replica's. part: of a
        group on several machines, which of its parts is here; the first has the lead, and must be
        given the meeting."""
        self.node = ""
        self.replica = replica
        self.epoch = epoch
        self._shape = RankSpawn(replica, 0, epoch, settings, part=part).shape
        self.ranks = [
            Child(
                f"rank {replica}.{rank}",
                "backend.ranks.rank:rank_main",
                RankSpawn(replica, rank, epoch, settings, first_rank, part),
                keeps_stderr=True,
            )
            for rank in self._shape.local
        ]
        self.page = HeartbeatPage(
            len(self.ranks), settings.max_num_seqs, epoch, num_batches(settings.pp)
        )
        self._connect()
        if meeting is not None:
            self.meet(*meeting)
        self._address = listening.address if listening is not None else None
        if listening is not None:
            self._listen(listening)

    def _connect(self) -> None:
        """Connect the ranks with each other, and keep no copy of what connects them."""
        group_fds = GroupFds(self.page.fd, self._shape)
        for rank, child in zip(self._shape.local, self.ranks, strict=True):
            # One that is dead already is told by its pidfd.
            with contextlib.suppress(ControlClosed):
                child.line.send(GroupWiring(), group_fds.view(rank).pack())
        group_fds.close()

    def _listen(self, listening: Listening) -> None:
        """Have the lead listen, and keep no copy of its socket."""
        with listening.listener, contextlib.suppress(ControlClosed):
            self.ranks[0].line.send(listening.message, (listening.listener.fileno(),))

    def meet(self, message: Meet, listener: socket.socket | None = None) -> None:
        """Have the ranks connect with those of other machines. listener: the lead's, where those
        call; this process keeps no copy of it."""
        with contextlib.ExitStack() as stack:
            if listener is not None:
                stack.enter_context(listener)
            for rank, child in zip(self._shape.local, self.ranks, strict=True):
                fds = (listener.fileno(),) if listener is not None and rank == 0 else ()
                with contextlib.suppress(ControlClosed):
                    child.line.send(message, fds)

    @property
    def load(self) -> Load:
        """What the group holds, as its lead has last told."""
        return self.page.heartbeats()[0].load

    def connect(self, worker: int, epoch: int) -> Offer:
        """Connect the lead with a worker; return what the worker must be sent.

        Raises ControlClosed.
        """
        if self._address is not None:
            return Offer(Dial(0, worker, self.replica, epoch, self._address))
        channel = create_channel()
        try:
            self.attach(worker, epoch, channel)
            fds = tuple(map(os.dup, channel.worker_end))
            return Offer(Attach(worker, self.replica, epoch), fds)
        finally:
            channel.close()

    def attach(self, worker: int, epoch: int, channel: ChannelFds) -> None:
        """Give the lead its end of a channel to a worker. Raises ControlClosed."""
        self.ranks[0].line.send(Attach(worker, self.replica, epoch), channel.lead_end)

    def detach(self, worker: int, epoch: int) -> None:
        """Tell the lead that a worker is gone. Raises ControlClosed."""
        self.ranks[0].line.send(Detach(worker, self.replica, epoch))

    def retire(self) -> None:
        """Have the lead grant workers of other gateways nothing more: it is about to be stopped.

        Raises ControlClosed.
        """
        self.ranks[0].line.send(Retire())

    def renew(self, certificate: str, key: str) -> None:
        """See Replica. Raises ControlClosed."""
        self.ranks[0].line.send(Renew(certificate, key))
        if self._address is not None:
            self._address = pinned(self._address, certificate)

    def stop(self) -> None:
        """Ask every rank to exit; those that cannot hear are killed."""
        for child in self.ranks:
            try:
                child.line.send(Stop())
            except ControlClosed:
                child.kill()

    def kill(self) -> None:
        """End every rank, whatever it is doing."""
        for child in self.ranks:
            child.kill()

    def close(self) -> None:
        """Reap the ranks. They must be dead or dying."""
        for child in self.ranks:
            child.close()
        self.page.close()
