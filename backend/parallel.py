"""The group a rank computes in: sums and gathers between its ranks, through shared memory.

    field              single writer    read by
    buffers of rank i  rank i           every rank
    bell (i, j)        rank i           rank j

A rank copies its part into its buffer, rings the others and waits for theirs. Whoever rings for
call n + 1 has read all of call n, so with two buffers nobody overwrites what another still reads.
The bells are system calls: they order the copies on every architecture, and a waiting rank
sleeps. Ranks are added in order, in fp32, so all get the same bits.

A rank that waits for a dead one sleeps until the supervisor ends the group.
"""

import mmap
import os

import torch
from torch import Tensor

from backend.wire.local.rank_exchange import RankExchangeFds


class TensorParallel:
    """The group a rank computes in. A group of one does nothing and needs no exchange."""

    def __init__(self, rank: int = 0, size: int = 1, fds: RankExchangeFds | None = None) -> None:
        self.rank = rank
        self.size = size
        if size == 1:
            return
        if fds is None:
            raise ValueError("a group of several ranks needs an exchange")
        self._fds = fds
        total = os.fstat(fds.memory).st_size
        self._memory = mmap.mmap(fds.memory, total)
        self._slot_bytes = total // (2 * size)
        self._turn = 0

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x: contiguous, any shape and float dtype."""
        if self.size == 1 or x.numel() == 0:  # without rows nobody waits for anybody
            return x
        flat = x.view(-1)
        for part in torch.split(flat, self._slot_bytes // x.element_size()):
            slots = self._exchange(part)
            total = slots[0].float()  # a copy unless x is fp32 already
            total = total + slots[1]
            for slot in slots[2:]:
                total += slot
            part.copy_(total)
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        """Return what every rank passed, [size, *x.shape]. Shapes must agree."""
        if self.size == 1:
            return x.unsqueeze(0)
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

    def _exchange(self, part: Tensor) -> list[Tensor]:
        """Show `part` to all; return everyone's, valid until the call after the next."""
        slots = [
            torch.frombuffer(
                self._memory,
                dtype=part.dtype,
                count=part.numel(),
                offset=(2 * rank + self._turn) * self._slot_bytes,
            )
            for rank in range(self.size)
        ]
        slots[self.rank].copy_(part)
        self._turn = 1 - self._turn
        for bell in self._fds.out:
            os.eventfd_write(bell, 1)
        for bell in self._fds.into:
            os.eventfd_read(bell)
        return slots
