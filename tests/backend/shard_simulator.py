"""Ranks of a group in one process, one computing at a time, whose sums are made by hand.

What a group of 2, 4 or 8 devices computes is seen without any: each rank has its shard of a model
and its own caches; where they meet, the last to come adds all parts in float32, in the order of the
ranks.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel

T = TypeVar("T")


class _Table:
    """Where ranks lay their parts down. Whoever has the turn computes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.turn = threading.Condition()
        self.parts: dict[int, Tensor] = {}
        self.results: dict[int, tuple[int, Tensor]] = {}
        self.num_meetings = 0
        self.is_broken = False

    def meet(self, rank: int, part: Tensor, join: Callable[[list[Tensor]], Tensor]) -> Tensor:
        """Wait until all are here; the last to come makes the result. Holds the turn."""
        number = self.num_meetings
        assert rank not in self.parts, "a rank came twice to one meeting"
        self.parts[rank] = part
        if len(self.parts) == self.size:
            parts = [self.parts[each] for each in range(self.size)]
            assert len({(each.shape, each.dtype) for each in parts}) == 1, "parts differ in shape"
            self.results[number] = (self.size, join(parts))
            self.parts, self.num_meetings = {}, number + 1
            self.turn.notify_all()
        self.turn.wait_for(lambda: number in self.results or self.is_broken, timeout=600)
        if number not in self.results:
            raise RuntimeError("another rank failed, or does not come to this meeting")
        left, result = self.results.pop(number)
        if left > 1:
            self.results[number] = (left - 1, result)
        return result


class SimulatedRank(TensorParallel):
    """One of several, see above."""

    def __init__(self, rank: int, table: _Table) -> None:
        super().__init__(rank, table.size)
        self._table = table
        self.num_sums = 0

    def all_reduce(self, x: Tensor) -> Tensor:
        self.num_sums += 1
        total = self._table.meet(self.rank, x.clone(), _sum)
        return x.copy_(total)

    def all_gather(self, x: Tensor) -> Tensor:
        return self._table.meet(self.rank, x.clone(), torch.stack).clone()


def simulate(size: int, work: Callable[[SimulatedRank], T]) -> list[T]:
    """Return what `work` gives on each rank; the first exception of any is raised."""
    table = _Table(size)
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        with table.turn:
            try:
                results[rank] = work(SimulatedRank(rank, table))
            except BaseException as error:
                errors.append(error)
                table.is_broken = True
                table.turn.notify_all()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(size)]


def _sum(parts: list[Tensor]) -> Tensor:
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return total.to(parts[0].dtype)
