"""Ops of layers that keep a state for each sequence: gated delta rule and Mamba-2's scan.

A program has one sequence, and a part of a head. It holds its part of the state and runs the
sequence's segments, each from the slot that it reads into the slot that it writes. Of several
segments each goes on from what the one before has just left. A slot below 0 is read as zeros and
not written. Sequences of one token are run here, those of more by chunks (state_chunks.py).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.ops.batch import StateBatch
from backend.ops.delta_rule import DeltaHeads
from backend.ops.ssm_scan import SsmHeads
from backend.ops.triton import state_chunks
from backend.ops.triton.state_chunks import read_state, softplus, write_state
from backend.ops.triton.state_plan import CHUNK, StatePlan

# Columns of a state's program: of a state of 128 rows it takes 32 registers of a thread.
COLUMNS = 32
# A chunk's rows are read once: nothing is to lie ahead in shared memory, of which states take much.
NUM_STAGES = 1


def delta_rule(
    x: Tensor, a: Tensor, b: Tensor, heads: DeltaHeads, state: Tensor, states: StateBatch
) -> Tensor:
    """See `Ops.delta_rule`."""
    num_value_heads = state.shape[1]
    out = x.new_empty(len(x), num_value_heads, heads.value_dim)
    if not out.numel():
        return out
    plan, columns = StatePlan.of(states), triton.next_power_of_2(heads.value_dim)
    gated = x, x.stride(0), a, b, a.stride(0), heads.key_heads, heads.rates, heads.biases
    sizes = heads.num_key_heads, heads.key_dim, heads.value_dim, heads.eps, heads.key_dim**-0.5
    if plan.num_single:
        block = min(COLUMNS, columns)
        _delta_rule[(plan.num_single, num_value_heads, triton.cdiv(heads.value_dim, block))](
            *gated,
            state,
            *_segments(states),
            out,
            *sizes,
            KEY_DIM=triton.next_power_of_2(heads.key_dim),
            BLOCK=block,
        )
    if plan.num_more:
        key_dim = max(16, triton.next_power_of_2(heads.key_dim))
        block = _tile(columns, key_dim)
        inverses = torch.empty(len(x), num_value_heads, CHUNK, dtype=torch.float32, device=x.device)
        state_chunks.invert_chunks[(len(plan.chunks), num_value_heads)](
            *gated,
            plan.chunks,
            inverses,
            heads.num_key_heads,
            heads.key_dim,
            heads.eps,
            CHUNK=CHUNK,
            KEY_DIM=key_dim,
        )
        grid = plan.num_more, num_value_heads, triton.cdiv(heads.value_dim, block)
        state_chunks.delta_chunks[grid](
            *gated,
            state,
            *_segments(states),
            inverses,
            out,
            plan.num_single,
            *sizes,
            CHUNK=CHUNK,
            KEY_DIM=key_dim,
            BLOCK=block,
            num_stages=NUM_STAGES,
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
    plan, rows = StatePlan.of(states), triton.next_power_of_2(heads.head_dim)
    gated = (
        x,
        x.stride(0),
        steps,
        steps.stride(0),
        heads.groups,
        heads.rates,
        heads.biases,
        heads.skips,
    )
    sizes = heads.num_groups, heads.head_dim, heads.state_dim
    limits = heads.steps_from, heads.steps_to, heads.step_scale
    state_dim = triton.next_power_of_2(heads.state_dim)
    if plan.num_single:
        block = min(COLUMNS, rows)
        _ssm_scan[(plan.num_single, num_heads, triton.cdiv(heads.head_dim, block))](
            *gated,
            state,
            *_segments(states),
            out,
            *sizes,
            *limits,
            STATE_DIM=state_dim,
            BLOCK=block,
        )
    if plan.num_more:
        block = _tile(rows, state_dim)
        state_chunks.ssm_chunks[(plan.num_more, num_heads, triton.cdiv(heads.head_dim, block))](
            *gated,
            state,
            *_segments(states),
            out,
            plan.num_single,
            *sizes,
            *limits,
            CHUNK=CHUNK,
            STATE_DIM=max(16, state_dim),
            BLOCK=block,
            num_stages=NUM_STAGES,
        )
    return out


def _tile(size: int, across: int) -> int:
    """Return how much of a state a program of chunks has of its rows or columns, which are so many:
    products want 16. across: the state's other size, of which a program has all."""
    return max(16, min(COLUMNS if across <= 128 else COLUMNS // 2, size))


def _segments(states: StateBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return states.chains, states.starts, states.reads, states.writes


@triton.jit(do_not_specialize_on_alignment=["chains", "starts", "reads", "writes"])
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
    first, last, kept = read_state(state, chains, reads, sequence, size, places, is_number)
    for segment in range(first, last):
        for token in range(tl.load(starts + segment), tl.load(starts + segment + 1)):
            row = x + tl.cast(token, tl.int64) * x_stride
            query = tl.load(row + of_queries, mask=is_row, other=0.0).to(tl.float32)
            key = tl.load(row + of_keys, mask=is_row, other=0.0).to(tl.float32)
            value = tl.load(row + of_values, mask=is_column, other=0.0).to(tl.float32)
            query *= tl.rsqrt(tl.sum(query * query, 0) + eps) * query_scale
            key *= tl.rsqrt(tl.sum(key * key, 0) + eps)
            gate = tl.cast(token, tl.int64) * gate_stride + head
            decay = tl.exp(rate * softplus(tl.load(a + gate).to(tl.float32) + shift))
            kept *= decay
            known = tl.sum(kept * key[:, None], 0)
            added = (value - known) * tl.sigmoid(tl.load(b + gate).to(tl.float32))
            kept += key[:, None] * added[None, :]
            result = tl.sum(kept * query[:, None], 0)
            target = out + (tl.cast(token, tl.int64) * num_heads + head) * value_dim + columns
            tl.store(target, result.to(out.dtype.element_ty), mask=is_column)
        write_state(state, writes + segment, size, places, is_number, kept)


@triton.jit(do_not_specialize_on_alignment=["chains", "starts", "reads", "writes"])
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
    first, last, kept = read_state(state, chains, reads, sequence, size, places, is_number)
    for segment in range(first, last):
        for token in range(tl.load(starts + segment), tl.load(starts + segment + 1)):
            row = x + tl.cast(token, tl.int64) * x_stride
            value = tl.load(row + head * head_dim + rows, mask=is_row, other=0.0).to(tl.float32)
            key = tl.load(row + of_keys, mask=is_column, other=0.0).to(tl.float32)
            query = tl.load(row + of_queries, mask=is_column, other=0.0).to(tl.float32)
            raw = tl.load(steps + tl.cast(token, tl.int64) * steps_stride + head).to(tl.float32)
            step = softplus(raw * step_scale + shift)
            step = tl.minimum(tl.maximum(step, steps_from), steps_to)
            kept = kept * tl.exp(rate * step) + (value * step)[:, None] * key[None, :]
            result = tl.sum(kept * query[None, :], 1) + skip * value
            target = out + (tl.cast(token, tl.int64) * num_heads + head) * head_dim + rows
            tl.store(target, result.to(out.dtype.element_ty), mask=is_row)
        write_state(state, writes + segment, size, places, is_number, kept)
