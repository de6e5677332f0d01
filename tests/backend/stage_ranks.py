"""Runs the stages of a group as threads of one process, over real links."""

import os
from collections.abc import Callable
from typing import TypeVar

from backend.distributed.pipeline import Pipeline
from backend.distributed.shm import SharedMemoryParallel
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.group_shape import GroupShape
from backend.wire.local.ring_link import RingLink
from backend.wire.local.wiring import GroupFds, WiringFds
from tests.backend.tp_ranks import run_threads

T = TypeVar("T")


def run_stages(
    shape: GroupShape,
    work: Callable[[TensorParallel, Pipeline], T],
    timeout_s: float = 600.0,
) -> list[T]:
    """Return what `work` gives on each rank; the first exception of any rank is raised."""
    page = os.memfd_create("page")
    group_fds = GroupFds(page, shape)

    def run(rank: int) -> T:
        fds = [*map(os.dup, group_fds.view(rank).pack())]
        try:
            return work(*ends(rank, shape, WiringFds.unpack(fds, rank, shape)))
        finally:
            for fd in fds:
                os.close(fd)

    results = run_threads(shape.local, run, timeout_s)
    group_fds.close()
    os.close(page)
    return results


def ends(rank: int, shape: GroupShape, wiring: WiringFds) -> tuple[TensorParallel, Pipeline]:
    """Return a rank's sums and its place among the stages."""
    tp = TensorParallel()
    if wiring.exchange is not None:
        tp = SharedMemoryParallel(rank % shape.tp, shape.tp, wiring.exchange)
    before, after = (
        RingLink(fds, epoch=1) if fds is not None else None for fds in (wiring.before, wiring.after)
    )
    return tp, Pipeline(shape.stage_of(rank), shape.pp, before, after)
