"""The C kernels against the oracle in fp32, over the same numbers rounded to bf16."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.native import absence, kernels
from backend.ops.batch import Batch
from backend.ops.native import MAX_ROWS, SPLIT_KEYS, NativeOps
from backend.ops.reference import ReferenceOps
from backend.step import PlannedSequence, StepPlan, build_plan

pytestmark = [
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.usefixtures("level"),
]

CPU = torch.device("cpu")
BLOCK_SIZE = 32
ORACLE = ReferenceOps()

# A result rounded to bf16 is off by 2^-9 of itself; weights and products before it add as much.
RTOL, ATOL = 2**-7, 2**-7


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def plan_of(sequences: list[tuple[int, int]], seed: int = 0) -> tuple[StepPlan, int]:
    """sequences: (tokens to run, tokens before them) -> the plan, and the blocks it needs."""
    num_blocks = sum(-(-(count + start) // BLOCK_SIZE) for count, start in sequences)
    blocks = np.random.default_rng(seed).permutation(num_blocks).tolist()
    planned = []
    for count, start in sorted(sequences, key=lambda s: s[0] != 1):
        width = -(-(start + count) // BLOCK_SIZE)
        table, blocks = blocks[:width], blocks[width:]
        planned.append(PlannedSequence([1] * count, start, table, 0, 0))
    return build_plan(1, planned, [], BLOCK_SIZE), num_blocks


def check_attention(
    sequences: list[tuple[int, int]], heads: int, kv_heads: int, dim: int, seed: int = 0
) -> None:
    plan, num_blocks = plan_of(sequences, seed)
    batch = Batch.from_plan(plan, CPU)
    cache = randn(num_blocks, 2, kv_heads, BLOCK_SIZE, dim, seed=seed)
    qkv = randn(plan.num_tokens, heads + 2 * kv_heads, dim, seed=seed + 1)
    q = qkv[:, :heads]  # tokens lie apart
    expected = ORACLE.attention(q.float(), cache, batch)
    ops = NativeOps()
    out = ops.attention(q, laid_out(cache), ops.plan_attention(batch, cache, heads))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=RTOL, atol=ATOL)


def laid_out(cache: torch.Tensor) -> torch.Tensor:
    """The same keys and values as native/attention.h says that they lie."""
    keys, values = cache.unbind(1)
    tiles = (*keys.shape[:2], BLOCK_SIZE // 16)
    dim = cache.shape[-1]
    keys = keys.reshape(*tiles, 16, dim // 2, 2).transpose(3, 4).reshape(keys.shape)
    values = values.reshape(*tiles, 8, 2, dim).transpose(4, 5).reshape(values.shape)
    return torch.stack((keys, values), dim=1)


@given(
    sequences=st.lists(
        st.tuples(st.sampled_from([1, 1, 1, 2, 17, 40, 100]), st.integers(0, 200)),
        min_size=1,
        max_size=12,
    ),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_attention_is_the_oracles(sequences: list[tuple[int, int]], seed: int) -> None:
    check_attention(sequences, 9, 3, 64, seed)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"),
    [(1, 1, 32), (4, 4, 96), (8, 1, 128), (7, 1, 160), (MAX_ROWS, 1, 32), (2, 1, 256)],
)
def test_attention_of_other_shapes(heads: int, kv_heads: int, dim: int) -> None:
    check_attention([(1, 70), (1, 0), (33, 50)], heads, kv_heads, dim)


def test_long_contexts_are_split_and_merged() -> None:
    check_attention(
        [(1, SPLIT_KEYS - 1), (1, SPLIT_KEYS), (1, 3 * SPLIT_KEYS + 7), (1, 5)], 6, 2, 32
    )


def test_attention_is_batch_invariant() -> None:
    """The same bits alone and beside others: an item is of one sequence."""
    alone, num_blocks = plan_of([(1, 100)])
    crowd = build_plan(
        1,
        [
            PlannedSequence([1], 60, list(range(num_blocks, num_blocks + 4)), 0, 0),
            PlannedSequence([1], 100, alone.block_tables[0].tolist(), 0, 0),
        ],
        [],
        BLOCK_SIZE,
    )
    cache = randn(num_blocks + 4, 2, 2, BLOCK_SIZE, 64)
    q = randn(2, 4, 64)
    ops = NativeOps()
    results = []
    for plan, queries in ((alone, q[1:]), (crowd, q)):
        batch = Batch.from_plan(plan, CPU)
        results.append(ops.attention(queries, cache, ops.plan_attention(batch, cache, 4))[-1])
    assert torch.equal(*results)


def test_nan_stays_in_its_sequence() -> None:
    plan, num_blocks = plan_of([(1, 40), (1, 40)])
    batch = Batch.from_plan(plan, CPU)
    cache = randn(num_blocks, 2, 2, BLOCK_SIZE, 64)
    cache[int(plan.block_tables[0, 1]), 0, 0, 3, 5] = torch.nan
    ops = NativeOps()
    out = ops.attention(randn(2, 2, 64), cache, ops.plan_attention(batch, cache, 2))
    assert out[:, 0].isnan().all(-1).tolist() == [True, False]


@pytest.mark.parametrize("tokens", [1, 5, 64])
@pytest.mark.parametrize("width", [576, 40])
def test_norm_is_the_oracles(tokens: int, width: int) -> None:
    x, delta = randn(2, tokens, width)
    weight = randn(width, seed=1)
    for added in (None, delta):
        sums, out = NativeOps().add_rms_norm(x, added, weight, 1e-5)
        expected_sums, expected = ORACLE.add_rms_norm(x, added, weight, 1e-5)
        assert torch.equal(sums, expected_sums)
        torch.testing.assert_close(out, expected, rtol=2**-7, atol=0)


def test_silu_is_the_oracles() -> None:
    gate_up = torch.cat((randn(20, 90) * 40, randn(20, 90, seed=1)), dim=1)
    torch.testing.assert_close(
        NativeOps().silu_mul(gate_up), ORACLE.silu_mul(gate_up), rtol=2**-7, atol=1e-30
    )


def test_rotate_store_writes_its_slots_only() -> None:
    plan, num_blocks = plan_of([(1, 5), (3, 2), (60, 30)])
    heads, kv_heads, dim = 6, 2, 64
    batch = Batch.from_plan(plan, CPU)
    qkv = randn(plan.num_tokens, heads + 2 * kv_heads, dim)
    angles = torch.randn(plan.num_tokens, 1, dim // 2).repeat(1, 1, 2)
    signs = torch.tensor([-1.0, 1.0]).repeat_interleave(dim // 2)
    rotation = (angles.cos().bfloat16(), (angles.sin() * signs).bfloat16())
    before = randn(num_blocks, 2, kv_heads, BLOCK_SIZE, dim, seed=2)
    expected_qkv, expected_cache, cache = qkv.clone(), before.clone(), laid_out(before)
    ORACLE.rotate_store(expected_qkv, rotation, expected_cache, batch)
    ops = NativeOps()
    ops.rotate_store(qkv, rotation, cache, ops.plan_attention(batch, cache, heads))
    torch.testing.assert_close(qkv[:, :heads], expected_qkv[:, :heads], rtol=2**-7, atol=2**-8)
    torch.testing.assert_close(cache, laid_out(expected_cache), rtol=2**-7, atol=2**-8)


def test_shapes_that_the_kernels_lack_are_left_to_torch() -> None:
    assert NativeOps.takes(64, 32, 9, 3)
    assert not NativeOps.takes(80, 32, 9, 3)
    assert not NativeOps.takes(64, 8, 9, 3)
