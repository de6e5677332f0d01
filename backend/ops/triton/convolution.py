"""Causal convolution of a few taps, channel by channel, which keeps its last inputs as a state.

A program has one sequence and some of its channels; it goes through segments, each from the slot
that it reads into the slot that it writes. Tokens need each other's inputs alone: those of prompts
are computed side by side first, in chunks, and what is kept is written after. A slot below 0 is
read as zeros and not written.
"""

import triton
import triton.language as tl
from torch import Tensor

from backend.config.spec import Activation
from backend.ops.batch import StateBatch
from backend.ops.triton.state_plan import CHUNK, StatePlan

# Channels of a program, and of a program of a chunk of tokens.
CHANNELS, TILE_CHANNELS = 256, 64


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    state: Tensor,
    states: StateBatch,
    activation: Activation | None,
) -> Tensor:
    """See `Ops.causal_conv`, of no activation or SiLU."""
    taps, channels = weight.shape
    out = x.new_empty(len(x), channels)
    if not out.numel():
        return out
    plan, width = StatePlan.of(states), triton.next_power_of_2(channels)
    shared = x, x.stride(0), weight, weight if bias is None else bias, state
    segments = states.chains, states.starts, states.reads, states.writes
    kept = triton.next_power_of_2(max(2, taps - 1))
    is_silu = activation == "silu"
    if plan.num_more:
        tile = min(TILE_CHANNELS, width)
        _convolve_chunk[(len(plan.chunks), triton.cdiv(channels, tile))](
            *shared,
            *segments[:3],
            plan.chunks,
            out,
            channels,
            taps,
            HAS_BIAS=bias is not None,
            IS_SILU=is_silu,
            CHUNK=CHUNK,
            BLOCK=tile,
        )
    block = min(CHANNELS, width)
    _causal_conv[(len(states.chain_list) - 1, triton.cdiv(channels, block))](
        *shared,
        *segments,
        out,
        plan.num_single,
        channels,
        taps,
        HAS_BIAS=bias is not None,
        IS_SILU=is_silu,
        KEPT=kept,
        BLOCK=block,
    )
    return out


@triton.jit
def _input_at(at, x, x_stride, columns, inside, begin, before, rows, taps):
    """Return a sequence's channels at a token, float32: what was kept, for those before `begin`."""
    here = tl.load(
        x + tl.cast(at, tl.int64) * x_stride + columns, mask=inside & (at >= begin), other=0.0
    ).to(tl.float32)
    wanted = taps - 1 - (begin - at)
    kept = tl.sum(tl.where(rows[:, None] == wanted, before, 0.0), 0)
    return tl.where(at >= begin, here, kept)


@triton.jit(do_not_specialize_on_alignment=["chains", "starts", "reads", "chunks"])
def _convolve_chunk(
    x,
    x_stride,
    weight,
    bias,
    state,
    chains,
    starts,
    reads,
    chunks,
    out,
    channels,
    taps,
    HAS_BIAS: tl.constexpr,
    IS_SILU: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The tokens of a chunk; nothing is kept. Grid: (chunks, channels)."""
    chunk = chunks + 3 * tl.program_id(0)
    tokens = tl.load(chunk) + tl.arange(0, CHUNK)
    is_token = tokens < tl.load(chunk + 1)
    first = tl.load(chains + tl.load(chunk + 2))
    begin, slot = tl.load(starts + first), tl.load(reads + first).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < channels
    is_wanted = is_token[:, None] & inside[None, :]
    kept = state + slot * (taps - 1) * channels
    total = tl.zeros([CHUNK, BLOCK], tl.float32)
    for tap in range(0, taps):
        at = tokens - (taps - 1) + tap
        is_here = (at >= begin)[:, None]
        rows = x + at.to(tl.int64)[:, None] * x_stride
        value = tl.load(rows + columns[None, :], mask=is_wanted & is_here, other=0.0)
        # What was before the sequence's tokens; at - begin is -1 for the last of it.
        before = kept + (taps - 1 + at - begin)[:, None] * channels
        is_before = is_wanted & (at < begin)[:, None] & (slot >= 0)
        older = tl.load(before + columns[None, :], mask=is_before, other=0.0)
        factor = tl.load(weight + tap * channels + columns, mask=inside, other=0.0)
        total += (value.to(tl.float32) + older) * factor[None, :]
    if HAS_BIAS:
        total += tl.load(bias + columns, mask=inside, other=0.0)[None, :]
    if IS_SILU:
        total *= tl.sigmoid(total)
    target = out + tokens.to(tl.int64)[:, None] * channels + columns[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=is_wanted)


@triton.jit(
    do_not_specialize=["num_single"],
    do_not_specialize_on_alignment=["chains", "starts", "reads", "writes"],
)
def _causal_conv(
    x,
    x_stride,
    weight,
    bias,
    state,
    chains,
    starts,
    reads,
    writes,
    out,
    num_single,
    channels,
    taps,
    HAS_BIAS: tl.constexpr,
    IS_SILU: tl.constexpr,
    KEPT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What is kept of all sequences, and the tokens of the first num_single, one of each."""
    sequence = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    rows = tl.arange(0, KEPT)
    inside = columns < channels
    is_kept = (rows < taps - 1)[:, None] & inside[None, :]
    places = rows[:, None] * channels + columns[None, :]
    size = (taps - 1) * channels
    first, last = tl.load(chains + sequence), tl.load(chains + sequence + 1)
    begin = tl.load(starts + first)
    slot = tl.load(reads + first, mask=first < last, other=-1).to(tl.int64)
    # What was before the sequence's tokens; a segment may write the slot it is from.
    before = tl.load(state + slot * size + places, mask=is_kept & (slot >= 0), other=0.0)
    for segment in range(first, last):
        start, end = tl.load(starts + segment), tl.load(starts + segment + 1)
        stop = tl.where(sequence < num_single, end, start)
        for token in range(start, stop):
            total = tl.zeros([BLOCK], tl.float32)
            for tap in range(0, taps):
                at = token - (taps - 1) + tap
                value = _input_at(at, x, x_stride, columns, inside, begin, before, rows, taps)
                factor = tl.load(weight + tap * channels + columns, mask=inside, other=0.0)
                total += value * factor
            if HAS_BIAS:
                total += tl.load(bias + columns, mask=inside, other=0.0)
            if IS_SILU:
                total *= tl.sigmoid(total)
            target = out + tl.cast(token, tl.int64) * channels + columns
            tl.store(target, total.to(out.dtype.element_ty), mask=inside)
        slot = tl.load(writes + segment).to(tl.int64)
        # What is overwritten may be what was kept, which threads read in another order.
        tl.debug_barrier()
        for row in range(0, taps - 1):
            at = end - (taps - 1) + row
            value = _input_at(at, x, x_stride, columns, inside, begin, before, rows, taps)
            target = state + slot * size + row * channels + columns
            tl.store(target, value, mask=inside & (slot >= 0))
