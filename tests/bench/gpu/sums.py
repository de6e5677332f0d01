"""Sums over ranks with a card each: what one takes, by the bytes, in one go and by NCCL."""

import multiprocessing
import os
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import torch
from torch import Tensor

from backend.distributed.device_group import DeviceGroup, join_devices
from backend.distributed.process_group import ProcessGroupParallel
from backend.distributed.shm import SharedMemoryParallel
from backend.wire.local.rank_exchange import RankExchange, RankExchangeFds

SIZES = (8 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20)
# So many in a row, as a step has them, so that a launch is not what is timed.
IN_A_ROW = 20
# Far more than it takes, and less than would end the part: communicators that form at all do so in
# seconds.
PATIENCE_S = 180.0


class SumRow(msgspec.Struct):
    """Seconds of a sum as the group chooses, and by the process group alone."""

    bytes: int
    chosen_s: float
    group_s: float


class SumResults(msgspec.Struct):
    """description: how the ranks sum."""

    ranks: int
    description: str
    sums: list[SumRow]


def measure_sums(ranks: int, device: str = "cuda", times: int = 50) -> SumResults:
    """Start so many processes, and time their sums. Raises RuntimeError if one ends early."""
    exchange, store = RankExchange(ranks), os.memfd_create("store")
    # Descriptors are passed on. This process has not begun to use CUDA, which takes no fork.
    starting = multiprocessing.get_context("fork")
    ours, theirs = starting.Pipe(duplex=False)
    processes = [
        starting.Process(
            target=_rank, args=(rank, exchange.view(rank), store, device, times, theirs)
        )
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    theirs.close()
    try:
        if not ours.poll(PATIENCE_S):
            raise RuntimeError(f"the ranks were not through in {PATIENCE_S:g} s")
        results: SumResults = msgspec.convert(ours.recv(), SumResults)
        return results
    except EOFError:
        raise RuntimeError("a rank ended early, see above") from None
    finally:
        for process in processes:
            process.kill()
            process.join()


def _rank(
    rank: int, fds: RankExchangeFds, store: int, device: str, times: int, told: Connection
) -> None:
    size = len(fds.out) + 1
    host = SharedMemoryParallel(rank, size, fds)
    place = torch.device("cpu")
    if device == "cuda":
        place = torch.device("cuda", rank)
        torch.cuda.set_device(place)
        group: Any = join_devices(host, place, store)
    else:
        from backend.distributed.gloo import GlooParallel
        from backend.distributed.process_group import open_store

        group = DeviceGroup(host, GlooParallel(rank, size, open_store(store, size)))
    alone = group._devices
    rows = []
    for num_bytes in SIZES:
        x = torch.zeros(num_bytes // 2, dtype=torch.bfloat16, device=place)
        chosen = _median_s(alone, x, times)
        by_group = _median_s(_WithoutOneShot(alone), x, times)
        rows.append(SumRow(num_bytes, chosen, by_group))
    if rank == 0:
        told.send(msgspec.to_builtins(SumResults(size, group.description, rows)))
    told.close()
    host.agrees(True)  # nobody leaves before all are through
    time.sleep(60)  # ended by whoever started it


class _WithoutOneShot:
    """Sums by the process group, whatever the length."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def all_reduce(self, x: Tensor) -> Tensor:
        way = getattr(self._group, "_one_shot", None)
        if way is None:
            total: Tensor = self._group.all_reduce(x)
            return total
        return ProcessGroupParallel.all_reduce(self._group, x)


def _median_s(group: Any, x: Tensor, times: int) -> float:
    def run() -> None:
        for _ in range(IN_A_ROW):
            group.all_reduce(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)

    run()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        seconds.append((time.perf_counter() - started) / IN_A_ROW)
    return statistics.median(seconds)
