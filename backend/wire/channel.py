"""The two ends of a channel between a worker and the lead of a group, whatever lies between them.

Requests go down, replies come up (messages.py); each end belongs to one incarnation of a worker and
one of a group. local/ends.py has those of one machine, a ring and a pipe in shared memory; tcp/
those of two, a stream. Lead and gateway know these alone.
"""

import select
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Protocol

from backend.wire.messages import Reply, Request


class ChannelBroken(Exception):
    """The other side is gone, hopelessly behind, or sent what it must not."""


class PeerGone(ChannelBroken):
    """The process at the other end has ended, as far as its machine's network says."""


class LeadEnd(Protocol):
    """The lead's end. Nothing here waits.

    epoch: the channel's.
    """

    epoch: int

    @property
    def has_backlog(self) -> bool:
        """Whether replies wait because the worker does not read; a bounded number of bytes may."""

    def register(self, poll: select.poll) -> None:
        """Have a poll wake when requests arrive, or when more of a backlog can be sent."""

    def receive(self) -> Sequence[Request]:
        """Send what can be of a backlog, then return what has arrived, oldest first.

        Raises ChannelBroken, and RingCorrupt for damage to memory that this machine shares.
        """

    def send(self, reply: Reply) -> None:
        """Send a reply, or queue what is not taken now. Raises ChannelBroken."""

    def close(self) -> None:
        """Release it; the worker sees its end."""


class WorkerEnd(Protocol):
    """The worker's end. Lives in the worker's event loop, and waits for nothing."""

    def listen(self, loop: AbstractEventLoop, on_news: Callable[[], None]) -> None:
        """Have a loop call `on_news` whenever receive() has something to tell."""

    def receive(self) -> list[Reply]:
        """Return what has arrived, oldest first; empty when nothing has. Raises ChannelBroken."""

    def send(self, request: Request, *, urgent: bool = False) -> bool:
        """Send a request; False, with nothing sent, when there is no room for it now.

        urgent: it may use the room that is kept for such, which aborts must have when submits find
        none. Raises ValueError for what could never fit.
        """

    def close(self) -> None:
        """Release it and listen no more; the lead sees its end."""
