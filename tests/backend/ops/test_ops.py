"""Each op of the serving tables against the oracle in fp32."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.ops.batch import Batch
from backend.ops.cpu import CpuOps
from backend.ops.exact import ExactOps
from backend.ops.op_table import Ops
from backend.ops.reference import ReferenceOps
from backend.step import PlannedSequence, StepPlan, build_plan

BLOCK_SIZE = 4
NUM_BLOCKS = 256
HEADS, KV_HEADS, DIM = 6, 2, 8
CPU = torch.device("cpu")

# fp32 sums of up to 200 products in another order: a few ulp of values near 1.
RTOL = ATOL = 1e-5

TABLES = [CpuOps(), ExactOps()]
names = [type(ops).__name__ for ops in TABLES]


def plan_of(sequences: list[tuple[int, int]], seed: int = 0) -> StepPlan:
    """sequences: (tokens to run, tokens before them); blocks are dealt out in random order."""
    blocks = np.random.default_rng(seed).permutation(NUM_BLOCKS).tolist()
    planned = []
    for count, start in sorted(sequences, key=lambda s: s[0] != 1):
        num_blocks = -(-(start + count) // BLOCK_SIZE)
        table, blocks = blocks[:num_blocks], blocks[num_blocks:]
        planned.append(PlannedSequence([1] * count, start, table, 0, 0))
    return build_plan(1, planned, [], BLOCK_SIZE)


def filled_cache(seed: int = 0) -> torch.Tensor:
    shape = (NUM_BLOCKS, 2, KV_HEADS, BLOCK_SIZE, DIM)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attend(ops: Ops, plan: StepPlan, q: torch.Tensor) -> torch.Tensor:
    batch = Batch.from_plan(plan, CPU)
    cache = filled_cache()
    return ops.attention(q, cache, ops.plan_attention(batch, cache, HEADS))


@pytest.mark.parametrize("ops", TABLES, ids=names)
@given(
    sequences=st.lists(
        st.tuples(st.sampled_from([1, 1, 1, 2, 5, 17]), st.integers(0, 20)), min_size=1, max_size=16
    ),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_attention_is_the_oracles(ops: Ops, sequences: list[tuple[int, int]], seed: int) -> None:
    plan = plan_of(sequences, seed)
    q = torch.randn(plan.num_tokens, HEADS, DIM, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        attend(ops, plan, q), attend(ReferenceOps(), plan, q), rtol=RTOL, atol=ATOL
    )


def test_attention_sees_no_nan_of_another_sequence() -> None:
    # Decoded together, gathered as if both had the longer one's number of blocks.
    sick = PlannedSequence([1], 4 * BLOCK_SIZE - 1, [0, 1, 2, 3], 0, 0)
    well = PlannedSequence([1], 3 * BLOCK_SIZE - 1, [4, 5, 6], 1, 0)
    batch = Batch.from_plan(build_plan(1, [sick, well], [], BLOCK_SIZE), CPU)
    cache = filled_cache()
    cache[:4] = torch.nan
    ops = CpuOps()
    out = ops.attention(torch.ones(2, HEADS, DIM), cache, ops.plan_attention(batch, cache, HEADS))
    assert out.isnan().all(-1).all(-1).tolist() == [True, False]


@pytest.mark.parametrize("ops", TABLES, ids=names)
def test_small_ops_are_the_oracles(ops: Ops) -> None:
    generator = torch.Generator().manual_seed(0)
    oracle = ReferenceOps()
    x = torch.randn(5, 64, generator=generator)
    weight = torch.randn(64, generator=generator)
    delta = torch.randn(5, 64, generator=generator)
    for added in (None, delta):
        torch.testing.assert_close(
            ops.add_rms_norm(x, added, weight, 1e-5),
            oracle.add_rms_norm(x, added, weight, 1e-5),
            rtol=RTOL,
            atol=ATOL,
        )
    torch.testing.assert_close(ops.silu_mul(x), oracle.silu_mul(x), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("ops", TABLES, ids=names)
def test_rotate_store_writes_its_slots_only(ops: Ops) -> None:
    plan = plan_of([(1, 5), (3, 2)])
    cache = filled_cache(1)
    before = cache.clone()
    qkv = torch.randn(plan.num_tokens, HEADS + 2 * KV_HEADS, DIM)
    cos, sin = torch.randn(2, plan.num_tokens, 1, DIM)
    oracle, expected = ReferenceOps(), qkv.clone()
    batch = Batch.from_plan(plan, CPU)
    oracle_plan = oracle.plan_attention(batch, cache, HEADS)
    oracle.rotate_store(expected, (cos, sin), cache.clone(), oracle_plan)
    ops.rotate_store(qkv, (cos, sin), cache, ops.plan_attention(batch, cache, HEADS))
    torch.testing.assert_close(qkv[:, :HEADS], expected[:, :HEADS], rtol=RTOL, atol=ATOL)
    by_slot, was = (
        x.permute(0, 3, 1, 2, 4).reshape(-1, 2 * KV_HEADS, DIM) for x in (cache, before)
    )
    slots = torch.from_numpy(plan.slot_mapping[0]).long()
    torch.testing.assert_close(by_slot[slots], expected[:, HEADS:], rtol=RTOL, atol=ATOL)
    others = torch.ones(len(by_slot), dtype=torch.bool)
    others[slots] = False
    assert torch.equal(by_slot[others], was[others])


@given(
    cut=st.integers(1, 39),
    others=st.lists(st.tuples(st.sampled_from([1, 3, 20]), st.integers(0, 15)), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_exact_attention_is_chunk_and_batch_invariant(
    cut: int, others: list[tuple[int, int]]
) -> None:
    """The last 40 - cut tokens of a 40-token prompt: the same bits as in one piece."""
    q = torch.randn(40, HEADS, DIM, generator=torch.Generator().manual_seed(3))
    table = list(range(10))
    whole = build_plan(1, [PlannedSequence([1] * 40, 0, table, 0, 0)], [], BLOCK_SIZE)
    expected = attend(ExactOps(), whole, q)[cut:]

    company = [
        PlannedSequence([1] * n, start, list(range(10, 10 + -(-(start + n) // BLOCK_SIZE))), 0, 0)
        for n, start in others
    ]
    mine = PlannedSequence([1] * (40 - cut), cut, table, 0, 0)
    sequences = sorted([*company, mine], key=lambda s: len(s.token_ids) != 1)
    plan = build_plan(1, sequences, [], BLOCK_SIZE)
    at = int(plan.query_starts[sequences.index(mine)])
    packed = torch.randn(plan.num_tokens, HEADS, DIM)
    packed[at : at + 40 - cut] = q[cut:]
    got = attend(ExactOps(), plan, packed)[at : at + 40 - cut]
    assert torch.equal(got, expected)
