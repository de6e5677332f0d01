"""The two kernels of a sum in one go, see one_shot.py."""

import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024
# Programs that a barrier waits for in vain cost nothing; more than this add no bandwidth.
_MOST_PROGRAMS = 128


def show_part(x: Tensor, memory: Tensor, turn: Tensor, limit_bytes: int) -> None:
    """Copy this rank's part into its buffer of the turn that begins.

    x: contiguous. memory: [2 * limit_bytes] uint8. turn: [2] int64, sums that are over and begun.
    """
    buffers = memory.view(x.dtype)
    _show[(_programs(x.numel()),)](
        x, buffers, turn, x.numel(), limit_bytes // x.element_size(), BLOCK=_BLOCK
    )


def add_parts(x: Tensor, peers: int, turn: Tensor, limit_bytes: int, size: int) -> None:
    """Add up all ranks' parts in float32, in their order, and end the turn.

    x: gets the sum. peers: address of `size` addresses, each of a rank's memory.
    """
    _add[(_programs(x.numel()),)](
        x, peers, turn, x.numel(), limit_bytes // x.element_size(), SIZE=size, BLOCK=_BLOCK
    )


def _programs(numel: int) -> int:
    programs: int = min(triton.cdiv(numel, _BLOCK), _MOST_PROGRAMS)
    return programs


@triton.jit(do_not_specialize=["numel"])
def _show(x, buffers, turn, numel, capacity, BLOCK: tl.constexpr):
    begun = tl.load(turn)
    target = buffers + (begun % 2) * capacity
    start = tl.program_id(0) * BLOCK
    step = tl.num_programs(0) * BLOCK
    for first in range(start, numel, step):
        places = first + tl.arange(0, BLOCK)
        mask = places < numel
        tl.store(target + places, tl.load(x + places, mask=mask), mask=mask)
    # Every program writes the same; nobody reads it before the kernel is over.
    tl.store(turn + 1, begun + 1)


@triton.jit(do_not_specialize=["numel", "peers"])
def _add(x, peers, turn, numel, capacity, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    over = tl.load(turn + 1)
    offset = ((over - 1) % 2) * capacity
    addresses = peers.to(tl.pointer_type(tl.int64))
    start = tl.program_id(0) * BLOCK
    step = tl.num_programs(0) * BLOCK
    for first in range(start, numel, step):
        places = first + tl.arange(0, BLOCK)
        mask = places < numel
        total = tl.zeros([BLOCK], tl.float32)
        for rank in tl.static_range(SIZE):
            part = tl.load(addresses + rank).to(tl.pointer_type(x.dtype.element_ty)) + offset
            # Written by another card; a kernel begins with nothing in its first cache.
            value = tl.load(part + places, mask=mask, other=0.0)
            total += value.to(tl.float32)
        tl.store(x + places, total.to(x.dtype.element_ty), mask=mask)
    tl.store(turn, over)
