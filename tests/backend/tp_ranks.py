"""Runs the ranks of a group as threads of one process, over a real exchange."""

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import torch

from backend.distributed.gloo import GlooParallel
from backend.distributed.process_group import open_store
from backend.distributed.shm import SharedMemoryParallel
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.local.rank_exchange import RankExchange

T = TypeVar("T")


def run_ranks(size: int, work: Callable[[TensorParallel], T], timeout_s: float = 600.0) -> list[T]:
    """Return what `work` gives on each rank; the first exception of any rank is raised."""
    if size == 1:
        return [work(TensorParallel())]
    exchange = RankExchange(size)
    results = run_threads(
        range(size),
        lambda rank: work(SharedMemoryParallel(rank, size, exchange.view(rank))),
        timeout_s,
    )
    exchange.close()
    return results


def run_threads(ranks: range, work: Callable[[int], T], timeout_s: float) -> list[T]:
    """Return what `work` gives for each rank, in a thread; the first exception is raised."""
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + timeout_s
    for thread in threads:
        while thread.is_alive() and not errors and time.monotonic() < until_s:
            thread.join(0.1)
        thread.join(0.2)
    if errors:
        raise errors[0]
    assert len(results) == len(ranks), "a rank still waits for another"
    return [results[rank] for rank in ranks]


def run_gloo(size: int, work: Callable[[TensorParallel], T]) -> list[T]:
    """As run_ranks(), with ranks that sum by a process group, as those do that share a card."""
    store = open_memory()

    def run(host: TensorParallel) -> T:
        tp = gloo_of(host, store)
        host.all_reduce(torch.zeros(1))  # who ends sooner would cut off those that still connect
        return work(tp)

    return run_ranks(size, run)


def open_memory() -> int:
    """Return memory for a store of ranks, which nobody closes.

    Whenever a store is collected, it opens its file once more; by then the number of a closed one
    may be a socket's, and the process would end.
    """
    return os.memfd_create("store")


def gloo_of(host: TensorParallel, store_fd: int) -> GlooParallel:
    """Return the process group of a rank. All ranks must call it."""
    return GlooParallel(host.rank, host.size, open_store(store_fd, host.size))
