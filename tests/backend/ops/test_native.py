"""The C kernels against the oracle in fp32, over the same numbers rounded to bf16."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.config.spec import Activation, Norm
from backend.native import absence, kernels
from backend.ops.attention_items import MAX_ROWS, SPLIT_KEYS
from backend.ops.batch import FULL, AttentionSpec, Batch
from backend.ops.kv_cache import SCALE_BYTES
from backend.ops.native import NativeOps
from backend.ops.reference import ReferenceOps
from backend.ops.tokenwise import Opening
from backend.step import PlannedSequence, build_plan
from tests.backend.attention_cases import (
    BLOCK_SIZE,
    CPU,
    AttentionCase,
    laid_out,
    laid_out_in_8_bits,
    plan_of,
    quantized,
    randn,
)

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.usefixtures("level"),
]

ORACLE = ReferenceOps()

# A result rounded to bf16 is off by 2^-9 of itself; weights and products before it add as much.
RTOL, ATOL = 2**-7, 2**-7


SPECS = [
    FULL,
    AttentionSpec(window=1),
    AttentionSpec(window=64),
    AttentionSpec(window=100, scale=0.3),
    AttentionSpec(softcap=2.0),
    AttentionSpec(softcap=30.0, window=37),
]


def check(case: AttentionCase) -> None:
    out = case.result()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), case.expected(), rtol=RTOL, atol=ATOL)


@given(
    sequences=st.lists(
        st.tuples(st.sampled_from([1, 1, 1, 2, 17, 40, 100]), st.integers(0, 200)),
        min_size=1,
        max_size=12,
    ),
    spec=st.sampled_from(SPECS),
    has_sinks=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=25, deadline=None)
def test_attention_is_the_oracles(
    sequences: list[tuple[int, int]], spec: AttentionSpec, has_sinks: bool, seed: int
) -> None:
    check(AttentionCase(sequences, 9, 3, 64, spec=spec, has_sinks=has_sinks, seed=seed))


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"),
    [
        (1, 1, 16),
        (4, 4, 48),
        (4, 2, 80),
        (4, 4, 96),
        (8, 1, 128),
        (7, 1, 160),
        (2, 1, 256),
        (8, 1, 512),
    ],
)
def test_attention_of_other_shapes(heads: int, kv_heads: int, dim: int) -> None:
    check(AttentionCase([(1, 70), (1, 0), (33, 50)], heads, kv_heads, dim))


@pytest.mark.parametrize("dim", [16, 64, 80, 256, 512])
def test_attention_over_8_bits_is_that_of_what_they_stand_for(dim: int) -> None:
    sequences = [(1, 70), (1, 0), (33, 50), (1, SPLIT_KEYS + 9)]
    case = AttentionCase(sequences, 6, 2, dim, spec=AttentionSpec(window=600), kv_bits=8)
    check(case)
    # Numbers of a normal distribution: the scale is some 1 / 45, half of it the largest error.
    error = (case.result().float() - case.expected(case.keys_and_values.float())).abs()
    assert 1e-4 < error.mean() < 0.01


def test_one_kv_head_serves_as_many_as_an_item_has_rows() -> None:
    check(AttentionCase([(1, 70), (2, 9)], MAX_ROWS, 1, 32))
    check(AttentionCase([(1, 70), (2, 9)], 48, 1, 512))
    assert NativeOps.takes(512, 16, 48, 1) and not NativeOps.takes(512, 16, 49, 1)


@pytest.mark.parametrize("kv_bits", [8, 16])
def test_blocks_of_a_layer_may_lie_apart(kv_bits: int) -> None:
    sequences = [(1, 70), (1, SPLIT_KEYS + 9), (33, 50)]
    case = AttentionCase(sequences, 6, 2, 64, kv_bits=kv_bits)
    expected = case.result()
    case.lay_apart(48)
    assert torch.equal(case.result(), expected)


def test_heads_turn_alike_with_and_without_keys() -> None:
    plan, num_blocks = plan_of([(1, 5), (3, 2)])
    ops, cache = NativeOps(), torch.zeros(num_blocks, 2, 2, BLOCK_SIZE, 64).bfloat16()
    qkv, angles = randn(plan.num_tokens, 7, 64), randn(plan.num_tokens, 1, 64, seed=1).float()
    rotation = angles.cos().bfloat16(), angles.sin().bfloat16()
    queries = qkv[:, :3].contiguous()
    planned = ops.plan_attention(Batch.from_plan(plan, CPU), cache, 3)
    ops.rotate_store(qkv, rotation, cache, planned)
    ops.rotate(queries, rotation)
    assert torch.equal(queries, qkv[:, :3])


@pytest.mark.parametrize("window", [0, 100, SPLIT_KEYS, SPLIT_KEYS + 70])
def test_long_contexts_are_split_and_merged(window: int) -> None:
    lengths = (SPLIT_KEYS - 1, SPLIT_KEYS, 3 * SPLIT_KEYS + 7, 5)
    sequences = [*((1, length) for length in lengths), (3, 2 * SPLIT_KEYS - 1)]
    check(AttentionCase(sequences, 6, 2, 32, spec=AttentionSpec(window=window), has_sinks=True))


@pytest.mark.pairwise
@pytest.mark.parametrize("window", [0, 90, SPLIT_KEYS + 1])
@pytest.mark.parametrize("length", [50, SPLIT_KEYS + 30, 2 * SPLIT_KEYS + 200])
def test_attention_is_chunk_invariant(length: int, window: int) -> None:
    """The same bits for a token alone, split over threads, and in any chunk of a prompt."""
    cache = laid_out(randn(-(-length // BLOCK_SIZE), 2, 1, BLOCK_SIZE, 48))
    q, sinks = randn(length, 3, 48), randn(3).float()
    spec = AttentionSpec(window=window, softcap=20.0)
    ops = NativeOps()

    def attend(start: int, count: int) -> torch.Tensor:
        table = list(range(-(-(start + count) // BLOCK_SIZE)))
        plan = build_plan(1, [PlannedSequence([1] * count, start, table, 0, 0)], [], BLOCK_SIZE)
        batch = Batch.from_plan(plan, CPU)
        attention = ops.plan_attention(batch, cache, 3, spec)
        return ops.attention(q[start : start + count], cache, attention, sinks)

    last = attend(length - 45, 45)
    for chunk in (1, 2, 32):
        starts = range(length - 45, length, chunk)
        parts = [attend(start, min(chunk, length - start)) for start in starts]
        assert torch.equal(torch.cat(parts), last)


def test_attention_is_batch_invariant() -> None:
    """The same bits alone and beside others: an item is of one sequence."""
    alone, num_blocks = plan_of([(1, 100)])
    crowd = build_plan(
        1,
        [
            PlannedSequence([1], 60, list(range(num_blocks, num_blocks + 4)), 0, 0),
            PlannedSequence([1], 100, alone.block_tables[0, 0].tolist(), 0, 0),
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
    cache[int(plan.block_tables[0, 0, 1]), 0, 0, 3, 5] = torch.nan
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


def test_gelu_is_the_oracles() -> None:
    gate_up = 12 * randn(3, 2 * 70)
    gate_up[0, :4] = torch.tensor([torch.inf, 300.0, -300.0, 1e-30])
    torch.testing.assert_close(
        NativeOps().gate_mul(gate_up, "gelu_tanh").float(),
        ORACLE.gate_mul(gate_up.float(), "gelu_tanh"),
        rtol=2**-7,
        atol=1e-5,
    )


@pytest.mark.parametrize("function", ["silu", "gelu", "gelu_tanh", "relu", "relu2"])
def test_activations_are_the_oracles(function: Activation) -> None:
    x = 3 * randn(20, 2 * 70)[:, :70]
    got = NativeOps().activate(x, function).float()
    torch.testing.assert_close(got, ORACLE.activate(x.float(), function), rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("opening", ["silu", "gelu", "gelu_tanh", "relu", "relu2", "sigmoid"])
def test_gates_are_the_oracles(opening: Opening) -> None:
    """Tokens lie apart. Before PyTorch multiplies it rounds what it has of a gate."""
    both = 3 * randn(20, 2 * 70)
    gate, up = both[:, :70], both[:, 70:]
    got = NativeOps().gate_by(gate, up, opening).float()
    expected = ORACLE.gate_by(gate.float(), up.float(), opening)
    torch.testing.assert_close(got, expected, rtol=2**-7, atol=1e-5)


def test_sums_and_products_have_the_bits_of_pytorch() -> None:
    x, y = randn(20, 90), randn(20, 90, seed=1)
    for factor in (1.0, 0.2215, 3.0):
        assert torch.equal(NativeOps().add(x, y, factor), ORACLE.add(x, y, factor))
        assert torch.equal(NativeOps().scale(x, factor), ORACLE.scale(x, factor))
    assert torch.equal(NativeOps().gate_by(x, y, "linear"), x * y)


@pytest.mark.parametrize("width", [576, 40])
@pytest.mark.parametrize("is_plain", [True, False])
def test_layer_norm_is_the_oracles(width: int, is_plain: bool) -> None:
    x, delta = 5 + randn(2, 40, width)
    weight, bias = (None, None) if is_plain else randn(2, width, seed=1)
    for added in (None, delta):
        sums, out = NativeOps().add_layer_norm(x, added, weight, bias, 1e-5)
        assert torch.equal(sums, x if added is None else x + added)
        wide = None if weight is None else weight.float()
        expected = ORACLE.add_layer_norm(
            sums.float(), None, wide, None if bias is None else bias.float(), 1e-5
        )[1]
        torch.testing.assert_close(out.float(), expected, rtol=2**-7, atol=2**-8)


@pytest.mark.parametrize("has_weight", [True, False])
def test_norms_of_heads_are_the_oracles(has_weight: bool) -> None:
    """Heads between others, which stay as they are."""
    heads = randn(40, 9, 72)
    expected, weight = heads.float(), randn(72, seed=1) if has_weight else None
    ORACLE.head_norm(expected[:, 3:7], weight, 1e-5)
    NativeOps().head_norm(heads[:, 3:7], weight, 1e-5)
    torch.testing.assert_close(heads.float(), expected, rtol=2**-7, atol=1e-6)
    assert torch.equal(heads[:, :3].float(), expected[:, :3])


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_norms_with_weights_of_each_head_are_the_oracles(kind: Literal["rms", "layer"]) -> None:
    heads, weight = 3 + randn(40, 9, 72), randn(4, 72, seed=1)
    expected, norm = heads.float(), Norm(kind=kind, eps=1e-5)
    ORACLE.norm_each_head(expected[:, 3:7], weight, norm)
    NativeOps().norm_each_head(heads[:, 3:7], weight, norm)
    torch.testing.assert_close(heads.float(), expected, rtol=2**-7, atol=2**-8)


def test_norms_of_heads_may_go_elsewhere() -> None:
    """With the bits that they have in place; what they are made of stays."""
    heads, weight = randn(40, 9, 72), randn(72, seed=1)
    before, expected = heads.clone(), heads[:, 3:5].clone()
    NativeOps().head_norm(expected, weight, 1e-5)
    NativeOps().head_norm_into(heads[:, 3:5], weight, 1e-5, heads[:, 7:])
    assert torch.equal(heads[:, 7:], expected)
    assert torch.equal(heads[:, :7], before[:, :7])


def test_silu_is_the_oracles() -> None:
    gate_up = torch.cat((randn(20, 90) * 40, randn(20, 90, seed=1)), dim=1)
    torch.testing.assert_close(
        NativeOps().silu_mul(gate_up), ORACLE.silu_mul(gate_up), rtol=2**-7, atol=1e-30
    )


@pytest.mark.parametrize("dim", [16, 64, 80])
@pytest.mark.parametrize("kv_bits", [8, 16])
def test_rotate_store_writes_its_slots_only(dim: int, kv_bits: int) -> None:
    plan, num_blocks = plan_of([(1, 5), (3, 2), (60, 30)])
    heads, kv_heads = 6, 2
    batch = Batch.from_plan(plan, CPU)
    qkv = randn(plan.num_tokens, heads + 2 * kv_heads, dim)
    angles = torch.randn(plan.num_tokens, 1, dim // 2).repeat(1, 1, 2)
    signs = torch.tensor([-1.0, 1.0]).repeat_interleave(dim // 2)
    rotation = (angles.cos().bfloat16(), (angles.sin() * signs).bfloat16())
    before = randn(num_blocks, 2, kv_heads, BLOCK_SIZE, dim, seed=2)
    expected_qkv, expected_cache = qkv.clone(), before.clone()
    cache = laid_out(before) if kv_bits == 16 else laid_out_in_8_bits(*quantized(before))
    oracle_plan = ORACLE.plan_attention(batch, expected_cache, heads)
    ORACLE.rotate_store(expected_qkv, rotation, expected_cache, oracle_plan)
    ops = NativeOps()
    ops.rotate_store(qkv, rotation, cache, ops.plan_attention(batch, cache, heads))
    torch.testing.assert_close(qkv[:, :heads], expected_qkv[:, :heads], rtol=2**-7, atol=2**-8)
    if kv_bits == 16:
        torch.testing.assert_close(cache, laid_out(expected_cache), rtol=2**-7, atol=2**-8)
        return
    # What rotated to a neighbouring bf16 may have another scale, and so a byte of one more or less.
    expected = laid_out_in_8_bits(*quantized(expected_cache)).view(-1, 16 * (dim + SCALE_BYTES))
    written = cache.view(expected.shape)
    numbers, scales = written[:, : 16 * dim], written[:, 16 * dim :].contiguous()
    expected_scales = expected[:, 16 * dim :].contiguous().view(torch.float32)
    torch.testing.assert_close(scales.view(torch.float32), expected_scales, rtol=2**-7, atol=0)
    torch.testing.assert_close(numbers, expected[:, : 16 * dim], rtol=0, atol=1)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_stay_so_in_8_bits(bad: float) -> None:
    plan, num_blocks = plan_of([(2, 0), (2, 0)])
    batch, ops = Batch.from_plan(plan, CPU), NativeOps()
    cache = torch.zeros(num_blocks, 2, 1, BLOCK_SIZE, 64 + SCALE_BYTES, dtype=torch.int8)
    qkv = randn(4, 3, 64)
    qkv[0, 2, 5] = bad
    rotation = (torch.ones(4, 1, 64).bfloat16(), torch.zeros(4, 1, 64).bfloat16())
    attention = ops.plan_attention(batch, cache, 1)
    ops.rotate_store(qkv, rotation, cache, attention)
    out = ops.attention(qkv[:, :1], cache, attention)
    assert out.isfinite().all(-1).flatten().tolist() == [False, False, True, True]


def test_shapes_that_the_kernels_lack_are_left_to_torch() -> None:
    assert NativeOps.takes(64, 32, 9, 3)
    assert NativeOps.takes(80, 32, 9, 3)
    assert not NativeOps.takes(72, 32, 9, 3)
    assert not NativeOps.takes(64, 8, 9, 3)
