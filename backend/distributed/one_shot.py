"""Sums of short messages in memory that every rank reads: one pass, where NCCL takes several.

    memory of rank i        single writer    read by
    buffers [2, limit]      rank i           every rank
    signals                 each rank        each rank: PyTorch's, for its barrier
    turn [2] int64          rank i           rank i: how many sums there were, and those begun

A sum is three launches: each rank copies its part into its buffer of this turn, meets the others in
a barrier on the device, then reads all parts and adds them in float32 in the order of the ranks.
Whoever comes to the barrier of sum n + 1 has read all of sum n, so with two buffers nobody
overwrites what another still reads. The turn lies on the device: a graph that is replayed goes on
with it, however many sums are in the graph.

The memory is PyTorch's symmetric memory, which is private to it and needs cards that can read each
other. So it is tried before it is trusted, and where anything of it fails, NCCL sums all.
"""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C import _distributed_c10d as c10d
from torch._C._distributed_c10d import PrefixStore, ProcessGroup, Store

from backend.distributed.process_group import Collectives
from backend.distributed.tensor_parallel import TensorParallel

logger = logging.getLogger(__name__)

# Each rank reads what R - 1 others have, where a ring moves 2 (R - 1) / R of a message: equal with
# two ranks, 4 times as much with 8. Unmeasured: `make bench-gpu` on several cards shows where they
# cross.
LIMIT_BYTES = {2: 1 << 20, 3: 512 << 10, 4: 512 << 10}
LEAST_LIMIT_BYTES = 256 << 10
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_GROUP = "unisono"


class SymmetricMemory(Protocol):
    """What is used of PyTorch's handle."""

    @property
    def buffer_ptrs_dev(self) -> int:
        """Address, on the device, of the addresses of all ranks' memory."""

    def barrier(self, channel: int = 0, timeout_ms: int = 0) -> None:
        """Have the stream wait until every rank's stream is here."""


class OneShotSum:
    """Sums of tensors of up to so many bytes."""

    def __init__(
        self,
        rank: int,
        size: int,
        memory: Tensor,
        handle: SymmetricMemory,
        limit_bytes: int,
        group: object = None,
    ) -> None:
        """memory: this rank's, [2 * limit_bytes] uint8; it is kept. handle: of all ranks'. group:
        kept as well, for the names of groups keep none alive."""
        self._rank, self._size = rank, size
        self._memory, self._handle, self._group = memory, handle, group
        self.limit_bytes = limit_bytes
        self._turn = torch.zeros(2, dtype=torch.int64, device=memory.device)

    def takes(self, x: Tensor) -> bool:
        """Whether a tensor is summed here: known from its shape, so all ranks agree."""
        return 0 < x.numel() * x.element_size() <= self.limit_bytes and x.dtype in DTYPES

    def all_reduce(self, x: Tensor) -> Tensor:
        """Sum x over the ranks, in place. x: contiguous, one that is taken."""
        from backend.distributed.one_shot_kernels import add_parts, show_part

        peers = self._handle.buffer_ptrs_dev
        show_part(x, self._memory, self._turn, self.limit_bytes)
        self._handle.barrier()
        add_parts(x, peers, self._turn, self.limit_bytes, self._size)
        return x


def can_read_each_other(host: TensorParallel, device: torch.device) -> bool:
    """Whether every rank's card can read the memory of every other; known to all alike."""
    cards = host.all_gather(torch.tensor([device.index])).flatten().tolist()
    can = find_spec("triton") is not None and all(
        torch.cuda.can_device_access_peer(device.index, card)
        for card in cards
        if card != device.index
    )
    return host.agrees(can)


def make_one_shot(
    host: TensorParallel, store: Store, group: Collectives, device: torch.device
) -> OneShotSum | None:
    """Return what sums short messages, tried; None, and a line in the log, where that fails."""
    try:
        one_shot = _make(host, store, group, device)
    except Exception as error:
        logger.info("one_shot=off: %s: %s", type(error).__name__, str(error).partition("\n")[0])
        one_shot = None
    if not host.agrees(one_shot is not None) or one_shot is None:
        return None
    return one_shot if is_right(host, one_shot.all_reduce, device) else None


def is_right(
    host: TensorParallel, all_reduce: Callable[[Tensor], Tensor], device: torch.device
) -> bool:
    """Whether sums are what they ought to be on every rank, three in turn for the two buffers."""
    found = True
    for turn in range(3):
        numbers = torch.arange(4096, device=device) % 97
        total = all_reduce((numbers * (host.rank + 1 + turn)).float())
        factor = sum(rank + 1 + turn for rank in range(host.size))
        found = found and bool((total == numbers * factor).all())
    if not host.agrees(found):
        logger.warning("one_shot=off: what it adds up to is wrong here")
        return False
    return True


def _make(
    host: TensorParallel, store: Store, group: Collectives, device: torch.device
) -> OneShotSum:
    symmetric: Any = c10d._SymmetricMemory
    limit = LIMIT_BYTES.get(host.size, LEAST_LIMIT_BYTES)
    named = _register(host, store, group, device)
    symmetric.set_group_info(_GROUP, host.rank, host.size, PrefixStore("symmetric", store))
    memory = symmetric.empty_strided_p2p((2 * limit,), (1,), torch.uint8, device, _GROUP)
    handle = symmetric.rendezvous(memory)
    return OneShotSum(host.rank, host.size, memory, handle, limit, named)


def _register(
    host: TensorParallel, store: Store, group: Collectives, device: torch.device
) -> ProcessGroup:
    """Give the group the name by which newer versions of the barrier look it up."""
    named: Any = ProcessGroup(store, host.rank, host.size)
    named._set_group_name(_GROUP)
    kind = getattr(ProcessGroup.BackendType, group.name().upper())
    named._register_backend(device, kind, group)
    named._set_default_backend(kind)
    c10d._register_process_group(_GROUP, named)  # type: ignore[arg-type]
    found: ProcessGroup = named
    return found
