"""One life of one group of tensor-parallel ranks: spawn, attach, stop. Knows no torch.

The spawn context is the standard library's, the very object torch.multiprocessing hands out; a
rank imports torch, this process never does.
"""

import contextlib
import os
from dataclasses import dataclass

from backend.config.model_config import ModelConfig, ModelError
from backend.placement.sharding import split_model
from backend.settings import EngineSettings
from backend.wire.control import Attach, ControlClosed, Detach, GroupWiring, Stop
from backend.wire.local.child import Child
from backend.wire.local.heartbeat import HeartbeatPage
from backend.wire.local.pipe import create_pipe
from backend.wire.local.rank_exchange import RankExchange
from backend.wire.local.ring import RingFds, create_ring

# 4 MiB: a hundred prompts of 8,192 tokens, five bytes each at most.
REQUEST_RING_BYTES = 4 << 20
# A plan of 128 sequences of 128k tokens in blocks of 32 is 2 MiB; two can be under way.
STEP_RING_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ChannelFds:
    """A new request ring and token pipe, before its two ends are sent away."""

    ring: RingFds
    pipe_read: int
    pipe_write: int

    @property
    def worker_end(self) -> tuple[int, ...]:
        return (*self.ring.all(), self.pipe_read)

    @property
    def lead_end(self) -> tuple[int, ...]:
        return (*self.ring.all(), self.pipe_write)

    def close(self) -> None:
        """Drop the supervisor's copies, so that each end sees the other's death."""
        self.ring.close()
        os.close(self.pipe_read)
        os.close(self.pipe_write)


def create_channel() -> ChannelFds:
    """Make what connects one life of a worker with one life of a group."""
    return ChannelFds(create_ring(REQUEST_RING_BYTES), *create_pipe())


@dataclass(frozen=True, slots=True)
class RankSpawn:
    """What a rank is told at spawn."""

    replica: int
    rank: int
    epoch: int
    settings: EngineSettings
    first_rank: int = 0


def check_group(config: ModelConfig, settings: EngineSettings) -> None:
    """Raise ModelError if a group with these settings cannot serve the model."""
    split_model(config, settings.tp)
    if settings.max_model_len > config.max_model_len:
        raise ModelError(
            f"--max-model-len {settings.max_model_len} is more than {config.name} was made for: "
            f"{config.max_model_len} tokens\nset less, or leave it out"
        )


class Replica:
    """The ranks of a group and their lines. It lives and dies as one."""

    def __init__(
        self, replica: int, epoch: int, settings: EngineSettings, first_rank: int = 0
    ) -> None:
        """settings: of this group; first_rank: ranks in the groups before it."""
        self.replica = replica
        self.epoch = epoch
        self.ranks = [
            Child(
                f"rank {replica}.{rank}",
                "backend.ranks.rank:rank_main",
                RankSpawn(replica, rank, epoch, settings, first_rank),
                keeps_stderr=True,
            )
            for rank in range(settings.tp)
        ]
        self.page = HeartbeatPage(settings.tp, settings.max_num_seqs, epoch)
        if settings.tp > 1:
            self._form()
        else:
            self._send_form(self.ranks[0])

    def _form(self) -> None:
        """Connect the ranks with each other, and keep no copy of what connects them."""
        size = len(self.ranks)
        exchange = RankExchange(size)
        steps = create_ring(STEP_RING_BYTES, size - 1)
        for rank, child in enumerate(self.ranks):
            mine = steps.all() if rank == 0 else steps.view(rank - 1)
            self._send_form(child, *exchange.view(rank).all(), *mine)
        exchange.close()
        steps.close()

    def _send_form(self, child: Child, *fds: int) -> None:
        # One that is dead already is told by its pidfd.
        with contextlib.suppress(ControlClosed):
            child.line.send(GroupWiring(), (self.page.fd, *fds))

    def attach(self, worker: int, epoch: int, channel: ChannelFds) -> None:
        """Connect the lead with a worker. Raises ControlClosed."""
        self.ranks[0].line.send(Attach(worker, self.replica, epoch), channel.lead_end)

    def detach(self, worker: int, epoch: int) -> None:
        """Tell the lead that a worker is gone. Raises ControlClosed."""
        self.ranks[0].line.send(Detach(worker, self.replica, epoch))

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
