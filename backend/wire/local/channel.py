"""A channel between a worker and the lead of a group: a request ring down, a token pipe up.

Attach (backend/wire/control.py) brings each of the two its end of it, as descriptors in the order
of ChannelEnd's fields. Called by the supervisor, which keeps no copy.
"""

import os
from dataclasses import dataclass
from typing import NamedTuple

from backend.wire.local.pipe import create_pipe
from backend.wire.local.ring import RingFds, create_ring

# 4 MiB: a hundred prompts of 8,192 tokens, five bytes each at most.
REQUEST_RING_BYTES = 4 << 20


class ChannelEnd(NamedTuple):
    """What one side is sent. pipe: the lead's end is for writing, the worker's for reading."""

    memory: int
    doorbell: int
    space: int
    pipe: int

    @property
    def ring(self) -> RingFds:
        return RingFds(self.memory, (self.doorbell,), (self.space,))


@dataclass(frozen=True, slots=True)
class ChannelFds:
    """A new request ring and token pipe, before its two ends are sent away."""

    ring: RingFds
    pipe_read: int
    pipe_write: int

    @property
    def worker_end(self) -> ChannelEnd:
        return self._end(self.pipe_read)

    @property
    def lead_end(self) -> ChannelEnd:
        return self._end(self.pipe_write)

    def close(self) -> None:
        """Drop the supervisor's copies, so that each end sees the other's death."""
        self.ring.close()
        os.close(self.pipe_read)
        os.close(self.pipe_write)

    def _end(self, pipe: int) -> ChannelEnd:
        [doorbell], [space] = self.ring.doorbells, self.ring.spaces
        return ChannelEnd(self.ring.memory, doorbell, space, pipe)


def create_channel() -> ChannelFds:
    """Make what connects one incarnation of a worker with one of a group."""
    return ChannelFds(create_ring(REQUEST_RING_BYTES), *create_pipe())
