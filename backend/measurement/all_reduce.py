"""How long ranks take to add up what each of them has: spawned ranks over a real exchange.

Rank 0's times are what counts: no rank goes on before the slowest. Every rank is a process of its
own, with one thread, as in a group with a rank a core.
"""

import contextlib
import select
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from backend.distributed.shm import SharedMemoryParallel
from backend.measurement.timing import quiet_quantile
from backend.wire.control import ControlClosed, GroupWiring
from backend.wire.local.child import Child, ChildContext
from backend.wire.local.rank_exchange import RankExchange, RankExchangeFds

# A row of a small model; 64 rows of one of 4,096 hidden units; in between, to warm up.
SIZES = (1 << 10, 1 << 16, 1 << 19)
REPEATS = 60
# What a rank reads between two sums, as of a model: its own code is cold then, and no rank is there
# when the other is.
BETWEEN_BYTES = 1 << 20
NUM_BETWEEN = 32
TIMEOUT_S = 60.0


class ExchangeError(RuntimeError):
    """A rank ended before it had measured."""


class Link(NamedTuple):
    """What a sum over ranks takes: before its first byte, and bytes/s that each rank shows and
    adds."""

    latency_s: float
    bandwidth: float


@dataclass(frozen=True, slots=True)
class ReduceSpawn:
    """What a rank is told at spawn. times_file: gets seconds by size, as JSON, of rank 0."""

    rank: int
    size: int
    times_file: str


def measure_link(size: int) -> Link:
    """Let `size` ranks add up rows of small and large models. Raises ExchangeError; no rank is left
    then either."""
    times = _group_times(size)
    (small, first_s), (large, last_s) = ((SIZES[n], times[n]) for n in (0, -1))
    bandwidth = (large - small) / max(last_s - first_s, 1e-9)
    return Link(max(0.0, first_s - small / bandwidth), bandwidth)


def _group_times(size: int) -> list[float]:
    """Return the seconds of a sum of each of SIZES."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="unisono-measure-"))
        times_file = Path(directory) / "times"
        exchange = RankExchange(size)
        stack.callback(exchange.close)
        ranks = []
        for rank in range(size):
            spawn = ReduceSpawn(rank, size, str(times_file))
            child = Child(f"measuring rank {rank}", f"{__name__}:reduce_main", spawn)
            stack.callback(_end, child)
            ranks.append(child)
        for rank, child in enumerate(ranks):
            with contextlib.suppress(ControlClosed):
                child.line.send(GroupWiring(), exchange.view(rank).all())
        deadline_s = time.monotonic() + TIMEOUT_S
        for child in ranks:
            left_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([child.pidfd], [], [], left_s)[0]:
                raise ExchangeError(f"{child.title} of {size} was not done in {TIMEOUT_S:g} s")
        if not times_file.exists():
            raise ExchangeError(f"ranks of a group of {size} ended before they had measured")
        return msgspec.json.decode(times_file.read_bytes(), type=list[float])


def _end(child: Child) -> None:
    child.kill()
    child.close()


def reduce_main(context: ChildContext, spawn: ReduceSpawn) -> None:
    """Entry point of a spawned rank; returns when all sizes are measured."""
    line = context.begin()
    poll = select.poll()
    poll.register(line, select.POLLIN)
    try:
        while (packet := line.receive()) is None:
            poll.poll()
    except ControlClosed:
        return
    _, fds = packet
    others = spawn.size - 1
    view = RankExchangeFds(fds[0], tuple(fds[1 : 1 + others]), tuple(fds[1 + others :]))
    torch.set_num_threads(1)
    tp = SharedMemoryParallel(spawn.rank, spawn.size, view)
    times = [_measure(tp, torch.ones(size // 2).bfloat16()) for size in SIZES]
    if spawn.rank == 0:
        scratch = Path(f"{spawn.times_file}.new")
        scratch.write_bytes(msgspec.json.encode(times))
        scratch.replace(spawn.times_file)


def _measure(tp: SharedMemoryParallel, x: Tensor) -> float:
    times = []
    weights = torch.ones(NUM_BETWEEN, BETWEEN_BYTES // 4)
    for repeat in range(REPEATS):
        x.fill_(1.0)
        weights[repeat % NUM_BETWEEN].sum()
        started = time.perf_counter()
        tp.all_reduce(x)
        times.append(time.perf_counter() - started)
    return quiet_quantile(times)
