"""Prompts through layers' states in chunks, by products of matrices: delta rule, Mamba-2's scan.

What the tokens of a chunk leave in a state, and read of each other, are products of a few matrices
of CHUNK rows; so a prompt is as many steps as it has chunks. Where the delta rule's tokens correct
what those before them have written, a triangle is inverted first, for all chunks side by side
(Yang et al. 2025, section 3.2; Dao and Gu 2024, section 6). Chunks begin with their segment.
"""

import triton
import triton.language as tl

# Products of float32 on tensor cores, each in three parts: off by hardly more than float32's sums.
PRECISION = tl.constexpr("tf32x3")


@triton.jit
def softplus(x):
    """log(1 + exp(x)), as PyTorch has it: x itself above 20."""
    small = tl.minimum(x, 20.0)
    return tl.where(x > 20.0, x, tl.maximum(small, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(small))))


@triton.jit
def read_state(state, chains, reads, sequence, size, places, is_number):
    """Return a sequence's segments, from the first to behind the last, and what it goes on from.

    size: numbers of a slot; places: in one, of the program's, as far as is_number says.
    """
    first, last = tl.load(chains + sequence), tl.load(chains + sequence + 1)
    slot = tl.load(reads + first, mask=first < last, other=-1).to(tl.int64)
    kept = tl.load(state + slot * size + places, mask=is_number & (slot >= 0), other=0.0)
    return first, last, kept


@triton.jit
def write_state(state, slot_at, size, places, is_number, kept):
    """Write what a segment leaves to the slot that is named at slot_at."""
    slot = tl.load(slot_at).to(tl.int64)
    tl.store(state + slot * size + places, kept, mask=is_number & (slot >= 0))


@triton.jit
def _between(since, places, WITH_OWN: tl.constexpr):
    """Return what is left at token i of what token j wrote before it, [CHUNK, CHUNK]; 0 else."""
    is_before = places[:, None] > places[None, :]
    if WITH_OWN:
        is_before |= places[:, None] == places[None, :]
    return tl.exp(tl.where(is_before, since[:, None] - since[None, :], float("-inf")))


@triton.jit
def _delta_gates(a, b, at, is_token, rates, biases, head):
    """Return the log of each token's decay, and how much it writes; 0 where there is no token."""
    raw = tl.load(a + at, mask=is_token, other=0.0).to(tl.float32)
    steps = softplus(raw + tl.load(biases + head))
    beta = tl.sigmoid(tl.load(b + at, mask=is_token, other=0.0).to(tl.float32))
    decays = tl.where(is_token, tl.load(rates + head) * steps, 0.0)
    return decays, tl.where(is_token, beta, 0.0)


@triton.jit
def _units(x, tokens, is_token, x_stride, columns, is_column, eps):
    """Return keys or queries of tokens, each as long as 1, [CHUNK, KEY_DIM]."""
    places = tokens[:, None].to(tl.int64) * x_stride + columns[None, :]
    rows = tl.load(x + places, mask=is_token[:, None] & is_column[None, :], other=0.0)
    rows = rows.to(tl.float32)
    return rows * tl.rsqrt(tl.sum(rows * rows, 1) + eps)[:, None]


@triton.jit(do_not_specialize_on_alignment=["chunks"])
def invert_chunks(
    x,
    x_stride,
    a,
    b,
    gate_stride,
    key_heads,
    rates,
    biases,
    chunks,
    inverses,
    num_key_heads,
    key_dim,
    eps,
    CHUNK: tl.constexpr,
    KEY_DIM: tl.constexpr,
):
    """Invert 1 + beta_i (k_i k_j) decay_ij, j < i, of each chunk and head, row by row.

    inverses: [T, Hv, CHUNK] float32, a row at its token. Grid: (chunks, heads).
    """
    head, num_heads = tl.program_id(1), tl.num_programs(1)
    first = tl.load(chunks + 3 * tl.program_id(0))
    end = tl.load(chunks + 3 * tl.program_id(0) + 1)
    places, columns = tl.arange(0, CHUNK), tl.arange(0, KEY_DIM)
    tokens = first + places
    is_token = tokens < end
    of_keys = (num_key_heads + tl.load(key_heads + head)) * key_dim + columns
    keys = _units(x, tokens, is_token, x_stride, of_keys, columns < key_dim, eps)
    at = tokens.to(tl.int64) * gate_stride + head
    decays, beta = _delta_gates(a, b, at, is_token, rates, biases, head)
    since = tl.cumsum(decays, 0)
    products = tl.dot(keys, tl.trans(keys), input_precision=PRECISION)
    products *= _between(since, places, WITH_OWN=False) * beta[:, None]
    inverse = tl.where(places[:, None] == places[None, :], 1.0, 0.0)
    for i in range(1, CHUNK):
        is_row = places[:, None] == i
        row = tl.sum(tl.where(is_row, products, 0.0), 0)
        less = tl.sum(row[:, None] * inverse, 0)
        inverse = tl.where(is_row, inverse - less[None, :], inverse)
    target = inverses + (tokens.to(tl.int64) * num_heads + head)[:, None] * CHUNK
    tl.store(target + places[None, :], inverse, mask=is_token[:, None])


@triton.jit(
    do_not_specialize=["skipped"],
    do_not_specialize_on_alignment=["chains", "starts", "reads", "writes"],
)
def delta_chunks(
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
    inverses,
    out,
    skipped,
    num_key_heads,
    key_dim,
    value_dim,
    eps,
    query_scale,
    CHUNK: tl.constexpr,
    KEY_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """skipped: sequences, the first ones, that are not run. Grid: (others, heads, columns)."""
    sequence = skipped + tl.program_id(0)
    head, num_heads = tl.program_id(1), tl.num_programs(1)
    places, rows = tl.arange(0, CHUNK), tl.arange(0, KEY_DIM)
    columns = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    is_row, is_column = rows < key_dim, columns < value_dim
    of_state = head * key_dim * value_dim + rows[:, None] * value_dim + columns[None, :]
    is_number = is_row[:, None] & is_column[None, :]
    size = num_heads * key_dim * value_dim
    of_queries = tl.load(key_heads + head) * key_dim + rows
    of_keys = of_queries + num_key_heads * key_dim
    of_values = 2 * num_key_heads * key_dim + head * value_dim + columns
    first, last, kept = read_state(state, chains, reads, sequence, size, of_state, is_number)
    for segment in range(first, last):
        end = tl.load(starts + segment + 1)
        for begin in range(tl.load(starts + segment), end, CHUNK):
            tokens = begin + places
            is_token = tokens < end
            queries = _units(x, tokens, is_token, x_stride, of_queries, is_row, eps) * query_scale
            keys = _units(x, tokens, is_token, x_stride, of_keys, is_row, eps)
            is_value = is_token[:, None] & is_column[None, :]
            of_token = x + tokens[:, None].to(tl.int64) * x_stride
            values = tl.load(of_token + of_values[None, :], mask=is_value, other=0.0)
            at = tokens.to(tl.int64) * gate_stride + head
            decays, beta = _delta_gates(a, b, at, is_token, rates, biases, head)
            since, whole = tl.cumsum(decays, 0), tl.sum(decays, 0)
            left = tl.exp(since)[:, None]
            heads_at = tokens.to(tl.int64) * num_heads + head
            inverse = tl.load(
                inverses + heads_at[:, None] * CHUNK + places[None, :],
                mask=is_token[:, None],
                other=0.0,
            )
            known = left * tl.dot(keys, kept, input_precision=PRECISION)
            missing = (values.to(tl.float32) - known) * beta[:, None]
            added = tl.dot(inverse, missing, input_precision=PRECISION)
            seen = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            seen *= _between(since, places, WITH_OWN=True)
            result = left * tl.dot(queries, kept, input_precision=PRECISION)
            result += tl.dot(seen, added, input_precision=PRECISION)
            target = out + heads_at[:, None] * value_dim + columns[None, :]
            tl.store(target, result.to(out.dtype.element_ty), mask=is_value)
            stays = keys * tl.exp(whole - since)[:, None]
            kept *= tl.exp(whole)
            kept += tl.dot(tl.trans(stays), added, input_precision=PRECISION)
        write_state(state, writes + segment, size, of_state, is_number, kept)


@triton.jit(
    do_not_specialize=["skipped"],
    do_not_specialize_on_alignment=["chains", "starts", "reads", "writes"],
)
def ssm_chunks(
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
    skipped,
    num_groups,
    head_dim,
    state_dim,
    steps_from,
    steps_to,
    step_scale,
    CHUNK: tl.constexpr,
    STATE_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """skipped: sequences, the first ones, that are not run. Grid: (others, heads, rows)."""
    sequence = skipped + tl.program_id(0)
    head, num_heads = tl.program_id(1), tl.num_programs(1)
    places, columns = tl.arange(0, CHUNK), tl.arange(0, STATE_DIM)
    rows = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    is_row, is_column = rows < head_dim, columns < state_dim
    of_state = head * head_dim * state_dim + rows[:, None] * state_dim + columns[None, :]
    is_number = is_row[:, None] & is_column[None, :]
    size = num_heads * head_dim * state_dim
    of_keys = num_heads * head_dim + tl.load(groups + head) * state_dim + columns
    of_queries = of_keys + num_groups * state_dim
    rate, shift, skip = tl.load(rates + head), tl.load(biases + head), tl.load(skips + head)
    first, last, kept = read_state(state, chains, reads, sequence, size, of_state, is_number)
    for segment in range(first, last):
        end = tl.load(starts + segment + 1)
        for begin in range(tl.load(starts + segment), end, CHUNK):
            tokens = begin + places
            is_token = tokens < end
            of_token = x + tokens[:, None].to(tl.int64) * x_stride
            is_value = is_token[:, None] & is_row[None, :]
            values = tl.load(
                of_token + (head * head_dim + rows)[None, :], mask=is_value, other=0.0
            ).to(tl.float32)
            is_shared = is_token[:, None] & is_column[None, :]
            keys = tl.load(of_token + of_keys[None, :], mask=is_shared, other=0.0)
            queries = tl.load(of_token + of_queries[None, :], mask=is_shared, other=0.0)
            keys, queries = keys.to(tl.float32), queries.to(tl.float32)
            raw = tl.load(
                steps + tokens.to(tl.int64) * steps_stride + head, mask=is_token, other=0.0
            ).to(tl.float32)
            step = softplus(raw * step_scale + shift)
            step = tl.where(is_token, tl.minimum(tl.maximum(step, steps_from), steps_to), 0.0)
            since, whole = tl.cumsum(rate * step, 0), tl.sum(rate * step, 0)
            written = values * step[:, None]
            seen = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            seen *= _between(since, places, WITH_OWN=True)
            result = tl.dot(queries, tl.trans(kept), input_precision=PRECISION)
            result = result * tl.exp(since)[:, None] + skip * values
            result += tl.dot(seen, written, input_precision=PRECISION)
            heads_at = tokens.to(tl.int64) * num_heads + head
            target = out + heads_at[:, None] * head_dim + rows[None, :]
            tl.store(target, result.to(out.dtype.element_ty), mask=is_value)
            stays = written * tl.exp(whole - since)[:, None]
            kept *= tl.exp(whole)
            kept += tl.dot(tl.trans(stays), keys, input_precision=PRECISION)
        write_state(state, writes + segment, size, of_state, is_number, kept)
