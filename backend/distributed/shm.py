"""Ranks of one machine: their sums and gathers go through shared memory.

    field              single writer    read by
    buffers of rank i  rank i           every rank
    count of rank i    rank i           every rank
    bell (i, j)        rank i           rank j

A rank copies its part into its buffer, counts the call, rings the others and waits for theirs.
Whoever rings for call n + 1 has read all of call n, so with two buffers nobody overwrites what
another still reads. The bells are system calls: they order the copies on every architecture, and a
waiting rank sleeps. Since ranks mostly come within microseconds of each other, and waking one takes
longer, a rank first looks at the others' counts for a while (lookout.py); what it reads of their
parts is ordered by their bells all the same. Ranks are added in one order (summation.py), in fp32,
so all get the same bits.

A rank that waits for a dead one sleeps until the supervisor ends the group.
"""

import mmap
import os

import torch
from torch import Tensor

from backend.distributed.lookout import Lookout
from backend.distributed.summation import sum_in_pairs
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.local.rank_exchange import COUNTER_BYTES, RankExchangeFds

# Views of the buffers that are kept: a model has sums of a few sizes, prompts of any.
_MAX_VIEWS = 64


class SharedMemoryParallel(TensorParallel):
    """Several tensor-parallel ranks of one machine."""

    waits_for_host = True

    def __init__(self, rank: int, size: int, fds: RankExchangeFds) -> None:
        super().__init__(rank, size)
        self._fds = fds
        total = os.fstat(fds.memory).st_size
        self._memory = mmap.mmap(fds.memory, total)
        self._slot_bytes = (total - size * COUNTER_BYTES) // (2 * size)
        self._turn = 0
        self._views: dict[tuple[torch.dtype, int, int], list[Tensor]] = {}
        # One number a rank, COUNTER_BYTES apart.
        self._counts = memoryview(self._memory)[total - size * COUNTER_BYTES :].cast("q")
        places = [other * COUNTER_BYTES // 8 for other in range(size) if other != rank]
        self._num_calls = 0
        # Only where each rank may have a core.
        has_cores = len(os.sched_getaffinity(0)) >= size
        self._lookout = Lookout(self._counts, places) if has_cores else None

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x: contiguous, any shape and float dtype."""
        if x.numel() == 0:  # without rows nobody waits for anybody
            return x
        flat = x.view(-1)
        for part in torch.split(flat, self._slot_bytes // x.element_size()):
            sum_in_pairs(self._exchange(part), part)
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return what every rank passed, [size, *x.shape]. Shapes must agree."""
        if x.numel() == 0:
            return x.new_empty(self.size, *x.shape)
        flat = x.contiguous().view(-1)
        gathered = torch.empty(self.size, flat.numel(), dtype=x.dtype)
        start = 0
        for part in torch.split(flat, self._slot_bytes // x.element_size()):
            for row, slot in zip(gathered, self._exchange(part), strict=True):
                row[start : start + part.numel()] = slot
            start += part.numel()
        return gathered.view(self.size, *x.shape).to(x.device)

    def hand_out(self, x: Tensor) -> Tensor:
        """See TensorParallel."""
        if x.numel() == 0:
            return x
        for part in torch.split(x.view(-1), self._slot_bytes // x.element_size()):
            first = self._exchange(part, shows=self.rank == 0)[0]
            if self.rank:
                part.copy_(first)
        return x

    def _exchange(self, part: Tensor, *, shows: bool = True) -> list[Tensor]:
        """Show `part` to all; return everyone's, valid until the call after the next.

        shows: False for who has nothing to show, and comes to see alone.
        """
        slots = self._slots(part.dtype, part.numel())
        if shows:
            slots[self.rank].copy_(part)
        self._turn = 1 - self._turn
        self._num_calls += 1
        self._counts[self.rank * COUNTER_BYTES // 8] = self._num_calls
        for bell in self._fds.out:
            os.eventfd_write(bell, 1)
        if self._lookout is not None:
            self._lookout.wait(self._num_calls)
        for bell in self._fds.into:
            os.eventfd_read(bell)
        return slots

    def _slots(self, dtype: torch.dtype, numel: int) -> list[Tensor]:
        """Return so many numbers of everyone's buffer of this turn."""
        key = (dtype, numel, self._turn)
        if (slots := self._views.get(key)) is None:
            slots = [
                torch.frombuffer(
                    self._memory,
                    dtype=dtype,
                    count=numel,
                    offset=(2 * rank + self._turn) * self._slot_bytes,
                )
                for rank in range(self.size)
            ]
            if len(self._views) == _MAX_VIEWS:
                self._views.clear()
            self._views[key] = slots
        return slots
