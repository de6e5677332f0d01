"""A channel's ends on one machine: requests go through a ring, replies through a pipe.

What is no message of ours in the memory that lead and worker share means that it is damaged, and
ends the group; what comes through the pipe ends the channel.
"""

import os
import select
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

import msgspec

from backend.wire import messages
from backend.wire.channel import ChannelBroken
from backend.wire.local.channel import ChannelEnd
from backend.wire.local.pipe import PipeReader, PipeWriter
from backend.wire.local.ring import RingCorrupt, RingReader, RingWriter
from backend.wire.messages import Reply, Request

# Aborts must get through when submits do not.
RESERVED_SHARE = 16


class LocalLeadEnd:
    """The lead's: see LeadEnd in backend/wire/channel.py. Owns the descriptors it is given."""

    def __init__(self, epoch: int, fds: Sequence[int]) -> None:
        """fds: as ChannelFds.lead_end has them."""
        end = ChannelEnd(*fds)
        self.epoch = epoch
        self._ring = RingReader(end.ring, epoch=epoch)
        self._pipe = PipeWriter(end.pipe)

    @property
    def has_backlog(self) -> bool:
        return self._pipe.has_backlog

    def register(self, poll: select.poll) -> None:
        poll.register(self._ring, select.POLLIN)
        if self._pipe.has_backlog:
            poll.register(self._pipe, select.POLLOUT)

    def receive(self) -> Sequence[Request]:
        self._pipe.flush()
        try:
            return [messages.decode_request(record) for record in self._ring.read()]
        except msgspec.MsgspecError as error:
            raise RingCorrupt(f"a record is not a request: {error}") from error

    def send(self, reply: Reply) -> None:
        self._pipe.write(messages.encode(reply))

    def close(self) -> None:
        self._ring.close()
        self._pipe.close()


class LocalWorkerEnd:
    """The worker's: see WorkerEnd in backend/wire/channel.py. Owns the descriptors it is given."""

    def __init__(self, epoch: int, fds: Sequence[int]) -> None:
        """fds: as ChannelFds.worker_end has them."""
        end = ChannelEnd(*fds)
        reserve_bytes = os.fstat(end.memory).st_size // RESERVED_SHARE
        self._ring = RingWriter(end.ring, epoch=epoch, reserve_bytes=reserve_bytes)
        self._pipe = PipeReader(end.pipe)
        self._loop: AbstractEventLoop | None = None

    def listen(self, loop: AbstractEventLoop, on_news: Callable[[], None]) -> None:
        self._loop = loop
        loop.add_reader(self._pipe.fileno(), on_news)

    def receive(self) -> list[Reply]:
        try:
            return [messages.decode_reply(frame) for frame in self._pipe.read()]
        except msgspec.MsgspecError as error:
            raise ChannelBroken(f"a frame cannot be read: {error}") from error

    def send(self, request: Request, *, urgent: bool = False) -> bool:
        return self._ring.write(messages.encode(request), urgent=urgent)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._pipe.fileno())
        self._ring.close()
        self._pipe.close()
