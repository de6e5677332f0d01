"""Ops of layers that keep a state for each sequence: convolution, gated delta rule, Mamba-2's scan.

A program has one sequence, and a part of its channels or of a head. It holds its part of the state
and runs the sequence's segments, token by token, each from the slot that it reads into the slot
that it writes: a token's bits are the same however its sequence is cut. Of several segments each
goes on from what the one before has just left. A slot below 0 is read as zeros and not written.
"""

import triton
import triton.language as tl
from torch import Tensor

from backend.config.spec import Activation
from backend.ops.batch import StateBatch
from backend.ops.delta_rule import DeltaHeads
from backend.ops.ssm_scan import SsmHeads

# Channels of a convolution's program, and columns of a state's: a state of 128 rows then takes 32
# registers of a thread.
CHANNELS = 256
COLUMNS = 32


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
    block = min(CHANNELS, triton.next_power_of_2(channels))
    _causal_conv[(len(states.chain_list) - 1, triton.cdiv(channels, block))](
        x,
        x.stride(0),
        weight,
        weight if bias is None else bias,
        state,
        *_segments(states),
        out,
        channels,
        taps,
        HAS_BIAS=bias is not None,
        IS_SILU=activation == "silu",
        KEPT=triton.next_power_of_2(max(2, taps - 1)),
        BLOCK=block,
    )
    return out


def delta_rule(
    x: Tensor, a: Tensor, b: Tensor, heads: DeltaHeads, state: Tensor, states: StateBatch
) -> Tensor:
    """See `Ops.delta_rule`."""
    num_value_heads = state.shape[1]
    out = x.new_empty(len(x), num_value_heads, heads.value_dim)
    if not out.numel():
        return out
    block = min(COLUMNS, triton.next_power_of_2(heads.value_dim))
    grid = len(states.chain_list) - 1, num_value_heads, triton.cdiv(heads.value_dim, block)
    _delta_rule[grid](
        x,
        x.stride(0),
        a,
        b,
        a.stride(0),
        heads.key_heads,
        heads.rates,
        heads.biases,
        state,
        *_segments(states),
        out,
        heads.num_key_heads,
        heads.key_dim,
        heads.value_dim,
        heads.eps,
        heads.key_dim**-0.5,
        KEY_DIM=triton.next_power_of_2(heads.key_dim),
        BLOCK=block,
    )
    return out


def ssm_scan(
    x: Tensor, steps: Tensor, heads: SsmHeads, state: Tensor, states: StateBatch
) -> Tensor:
    """See `Ops.ssm_scan`."""
    num_heads = len(heads.rates)
    out = x.new_empty(len(x), num_heads, heads.head_dim)
    if not out.numel():
        return out
    block = min(COLUMNS, triton.next_power_of_2(heads.head_dim))
    _ssm_scan[(len(states.chain_list) - 1, num_heads, triton.cdiv(heads.head_dim, block))](
        x,
        x.stride(0),
        steps,
        steps.stride(0),
        heads.groups,
        heads.rates,
        heads.biases,
        heads.skips,
        state,
        *_segments(states),
        out,
        heads.num_groups,
        heads.head_dim,
        heads.state_dim,
        heads.steps_from,
        heads.steps_to,
        heads.step_scale,
        STATE_DIM=triton.next_power_of_2(heads.state_dim),
        BLOCK=block,
    )
    return out


def _segments(states: StateBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return states.chains, states.starts, states.reads, states.writes


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), as PyTorch has it: x itself above 20."""
    small = tl.minimum(x, 20.0)
    return tl.where(x > 20.0, x, tl.maximum(small, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(small))))


@triton.jit
def _input_at(at, x, x_stride, columns, inside, begin, before, rows, taps):
    """Return a sequence's channels at a token, float32: what was kept, for those before `begin`."""
    here = tl.load(
        x + tl.cast(at, tl.int64) * x_stride + columns, mask=inside & (at >= begin), other=0.0
    ).to(tl.float32)
    wanted = taps - 1 - (begin - at)
    kept = tl.sum(tl.where(rows[:, None] == wanted, before, 0.0), 0)
    return tl.where(at >= begin, here, kept)


@triton.jit
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
    channels,
    taps,
    HAS_BIAS: tl.constexpr,
    IS_SILU: tl.constexpr,
    KEPT: tl.constexpr,
    BLOCK: tl.constexpr,
):
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
        for token in range(start, end):
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
        for row in range(0, taps - 1):
            at = end - (taps - 1) + row
            value = _input_at(at, x, x_stride, columns, inside, begin, before, rows, taps)
            target = state + slot * size + row * channels + columns
            tl.store(target, value, mask=inside & (slot >= 0))


@triton.jit
def _delta_rule(
    x,
    x_stride,
    a,
    b,
    gate_stride,
    key_heads,
    rates,
    biases,
    state,
    chains,
    starts,
    reads,
    writes,
    out,
    num_key_heads,
    key_dim,
    value_dim,
    eps,
    query_scale,
    KEY_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sequence, head, num_heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    rows, columns = tl.arange(0, KEY_DIM), tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    is_row, is_column = rows < key_dim, columns < value_dim
    places = head * key_dim * value_dim + rows[:, None] * value_dim + columns[None, :]
    is_number = is_row[:, None] & is_column[None, :]
    size = num_heads * key_dim * value_dim
    of_queries = tl.load(key_heads + head) * key_dim + rows
    of_keys = of_queries + num_key_heads * key_dim
    of_values = 2 * num_key_heads * key_dim + head * value_dim + columns
    rate, shift = tl.load(rates + head), tl.load(biases + head)
    first, last = tl.load(chains + sequence), tl.load(chains + sequence + 1)
    slot = tl.load(reads + first, mask=first < last, other=-1).to(tl.int64)
    kept = tl.load(state + slot * size + places, mask=is_number & (slot >= 0), other=0.0)
    for segment in range(first, last):
        for token in range(tl.load(starts + segment), tl.load(starts + segment + 1)):
            row = x + tl.cast(token, tl.int64) * x_stride
            query = tl.load(row + of_queries, mask=is_row, other=0.0).to(tl.float32)
            key = tl.load(row + of_keys, mask=is_row, other=0.0).to(tl.float32)
            value = tl.load(row + of_values, mask=is_column, other=0.0).to(tl.float32)
            query *= tl.rsqrt(tl.sum(query * query, 0) + eps) * query_scale
            key *= tl.rsqrt(tl.sum(key * key, 0) + eps)
            gate = tl.cast(token, tl.int64) * gate_stride + head
            decay = tl.exp(rate * _softplus(tl.load(a + gate).to(tl.float32) + shift))
            kept *= decay
            known = tl.sum(kept * key[:, None], 0)
            added = (value - known) * tl.sigmoid(tl.load(b + gate).to(tl.float32))
            kept += key[:, None] * added[None, :]
            result = tl.sum(kept * query[:, None], 0)
            target = out + (tl.cast(token, tl.int64) * num_heads + head) * value_dim + columns
            tl.store(target, result.to(out.dtype.element_ty), mask=is_column)
        slot = tl.load(writes + segment).to(tl.int64)
        tl.store(state + slot * size + places, kept, mask=is_number & (slot >= 0))


@triton.jit
def _ssm_scan(
    x,
    x_stride,
    steps,
    steps_stride,
    groups,
    rates,
    biases,
    skips,
    state,
    chains,
    starts,
    reads,
    writes,
    out,
    num_groups,
    head_dim,
    state_dim,
    steps_from,
    steps_to,
    step_scale,
    STATE_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sequence, head, num_heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    rows, columns = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, STATE_DIM)
    is_row, is_column = rows < head_dim, columns < state_dim
    places = head * head_dim * state_dim + rows[:, None] * state_dim + columns[None, :]
    is_number = is_row[:, None] & is_column[None, :]
    size = num_heads * head_dim * state_dim
    of_keys = num_heads * head_dim + tl.load(groups + head) * state_dim + columns
    of_queries = of_keys + num_groups * state_dim
    rate, shift, skip = tl.load(rates + head), tl.load(biases + head), tl.load(skips + head)
    first, last = tl.load(chains + sequence), tl.load(chains + sequence + 1)
    slot = tl.load(reads + first, mask=first < last, other=-1).to(tl.int64)
    kept = tl.load(state + slot * size + places, mask=is_number & (slot >= 0), other=0.0)
    for segment in range(first, last):
        for token in range(tl.load(starts + segment), tl.load(starts + segment + 1)):
            row = x + tl.cast(token, tl.int64) * x_stride
            value = tl.load(row + head * head_dim + rows, mask=is_row, other=0.0).to(tl.float32)
            key = tl.load(row + of_keys, mask=is_column, other=0.0).to(tl.float32)
            query = tl.load(row + of_queries, mask=is_column, other=0.0).to(tl.float32)
            raw = tl.load(steps + tl.cast(token, tl.int64) * steps_stride + head).to(tl.float32)
            step = _softplus(raw * step_scale + shift)
            step = tl.minimum(tl.maximum(step, steps_from), steps_to)
            kept = kept * tl.exp(rate * step) + (value * step)[:, None] * key[None, :]
            result = tl.sum(kept * query[None, :], 1) + skip * value
            target = out + (tl.cast(token, tl.int64) * num_heads + head) * head_dim + rows
            tl.store(target, result.to(out.dtype.element_ty), mask=is_row)
        slot = tl.load(writes + segment).to(tl.int64)
        tl.store(state + slot * size + places, kept, mask=is_number & (slot >= 0))
