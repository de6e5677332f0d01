"""Runs the ranks of a group as threads of one process, over a real exchange."""

import threading
from collections.abc import Callable
from typing import TypeVar

from backend.distributed.shm import SharedMemoryParallel
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.local.rank_exchange import RankExchange

T = TypeVar("T")


def run_ranks(size: int, work: Callable[[TensorParallel], T], timeout_s: float = 60.0) -> list[T]:
    """Return what `work` gives on each rank; the first exception of any rank is raised."""
    if size == 1:
        return [work(TensorParallel())]
    exchange = RankExchange(size)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(SharedMemoryParallel(rank, size, exchange.view(rank)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.2 if errors else timeout_s)
    if errors:
        raise errors[0]
    assert len(results) == size, "a rank still waits for another"
    exchange.close()
    return [results[rank] for rank in range(size)]
