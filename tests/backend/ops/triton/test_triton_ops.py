"""Triton's kernels against the oracle in fp32, over the same numbers."""

from typing import get_args

import pytest
import torch
import triton
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backend.config.spec import Activation, GateClamp
from backend.ops.batch import FULL, AttentionSpec, Batch
from backend.ops.gated_norm import Gate, GatedNorm
from backend.ops.op_table import Ops
from backend.ops.reference import ReferenceOps
from backend.ops.triton import decode_attention, rotary
from backend.ops.triton.decode_attention import LOT, SPLIT_KEYS, num_pieces
from backend.ops.triton.triton_ops import TritonOps
from tests.backend.attention_cases import plan_of

# The interpreter computes with numpy, which warns where an exp overflows on its way to 0 or 1.
pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OPS, ORACLE = TritonOps(), ReferenceOps()
# fp32 sums in another order; results in bf16 are off by 2^-9 of themselves, and by twice as much in
# the interpreter, which cuts where a GPU rounds; so are weights, and sums before they are normed.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}
SPECS = [
    FULL,
    AttentionSpec(window=1),
    AttentionSpec(window=37, scale=0.3),
    AttentionSpec(softcap=2.0),
    AttentionSpec(softcap=30.0, window=100),
]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype).to(DEVICE)


def check_attention(
    sequences: list[tuple[int, int]],
    heads: int = 6,
    kv_heads: int = 2,
    dim: int = 64,
    *,
    spec: AttentionSpec = FULL,
    has_sinks: bool = False,
    block_size: int = 16,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    plan, num_blocks = plan_of(sequences, block_size=block_size)
    batch = Batch.from_plan(plan, DEVICE)
    cache = randn(num_blocks, 2, kv_heads, block_size, dim, dtype=dtype)
    q = randn(plan.num_tokens, heads + 3, dim, seed=1, dtype=dtype)[:, :heads]  # tokens lie apart
    sinks = 3 * randn(heads, seed=2).float() if has_sinks else None
    out = OPS.attention(q, cache, OPS.plan_attention(batch, cache, heads, spec), sinks)
    assert out.dtype == dtype
    oracle = ORACLE.plan_attention(batch, cache, heads, spec)
    expected = ORACLE.attention(q.float(), cache, oracle, sinks)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(out.float(), expected, rtol=tolerance, atol=tolerance)


@given(
    sequences=st.lists(
        st.tuples(st.sampled_from([1, 1, 2, 17, 40]), st.integers(0, 100)), min_size=1, max_size=4
    ),
    spec=st.sampled_from(SPECS),
    has_sinks=st.booleans(),
    block_size=st.sampled_from([8, 16, 32]),
)
@settings(max_examples=12, deadline=None)
def test_attention_is_the_oracles(
    sequences: list[tuple[int, int]], spec: AttentionSpec, has_sinks: bool, block_size: int
) -> None:
    check_attention(sequences, 9, 3, spec=spec, has_sinks=has_sinks, block_size=block_size)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(1, 1, 16), (4, 2, 80), (8, 1, 128), (20, 1, 32), (2, 1, 256)]
)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention_of_other_shapes(heads: int, kv_heads: int, dim: int, dtype: torch.dtype) -> None:
    check_attention([(1, 70), (1, 0), (33, 50)], heads, kv_heads, dim, dtype=dtype)


def test_pieces_cover_every_key_once() -> None:
    """They lie one behind the other, and longer ones far back."""
    assert [num_pieces(n, LOT) for n in (0, 1, SPLIT_KEYS, SPLIT_KEYS + 1)] == [0, 1, 1, 2]
    lot = SPLIT_KEYS * LOT
    assert [num_pieces(n, LOT) for n in (lot, lot + 1, 3 * lot, 3 * lot + 1)] == [
        LOT,
        LOT + 1,
        2 * LOT,
        2 * LOT + 1,
    ]
    assert num_pieces(131072, LOT) == 81


@pytest.mark.parametrize("window", [0, 100, SPLIT_KEYS + 70])
def test_long_contexts_are_split_and_merged(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        decode_attention, "LOT", 2
    )  # of which the longest context has more than one
    monkeypatch.setattr(decode_attention, "MERGED", 2)
    lengths = (SPLIT_KEYS - 1, SPLIT_KEYS, 3 * SPLIT_KEYS + 7, 5)
    sequences = [(1, length) for length in lengths]
    check_attention(sequences, 2, 1, 32, spec=AttentionSpec(window=window), has_sinks=True)


def test_what_a_window_hides_may_be_anyones() -> None:
    """Blocks behind the window have come back: their numbers, NaN even, and names are no one's."""
    plan, num_blocks = plan_of([(1, 90), (20, 80)], block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    spec = AttentionSpec(window=20)
    cache, q = randn(num_blocks, 2, 1, 16, 32), randn(plan.num_tokens, 2, 32, seed=1)
    expected = OPS.attention(q, cache, OPS.plan_attention(batch, cache, 2, spec))
    for table, context_len, count in zip(
        batch.block_tables, batch.context_lens, (1, 20), strict=True
    ):
        hidden = max(0, context_len - count - spec.window + 1) // 16
        cache[table[:hidden].long()] = torch.nan
        table[:hidden] = 2**30
        filled = context_len % 16
        cache[int(table[(context_len - 1) // 16]), :, :, filled:] = torch.nan
    assert torch.equal(OPS.attention(q, cache, OPS.plan_attention(batch, cache, 2, spec)), expected)


def test_tokens_bits_are_those_it_has_alone() -> None:
    plan, num_blocks = plan_of([(1, 70), (1, SPLIT_KEYS + 9), (1, 3)], block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    cache, q = randn(num_blocks, 2, 2, 16, 32), randn(plan.num_tokens, 4, 32, seed=1)
    together = OPS.attention(q, cache, OPS.plan_attention(batch, cache, 4))
    for token in range(3):
        alone = OPS.plan_attention(batch.alone([token]), cache, 4)
        assert torch.equal(OPS.attention(q[token : token + 1], cache, alone)[0], together[token])


@pytest.mark.parametrize("dim", [16, 80])
def test_rotation_and_store_are_the_oracles(dim: int) -> None:
    plan, num_blocks = plan_of([(1, 5), (3, 2), (17, 0)], block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    caches = [torch.zeros(num_blocks, 2, 2, 16, dim, device=DEVICE).bfloat16() for _ in range(2)]
    angles = randn(plan.num_tokens, 1, dim, seed=1).float()
    rotation = angles.cos().bfloat16(), angles.sin().bfloat16()
    given = randn(plan.num_tokens, 7, dim)
    rotated = [given.clone(), given.clone()]
    tables: list[Ops] = [OPS, ORACLE]
    for ops, qkv, cache in zip(tables, rotated, caches, strict=True):
        ops.rotate_store(qkv, rotation, cache, ops.plan_attention(batch, cache, 3))
    torch.testing.assert_close(rotated[0][:, :3], rotated[1][:, :3], rtol=2**-7, atol=2**-7)
    torch.testing.assert_close(*caches, rtol=2**-7, atol=2**-7)
    queries = given[:, :3].contiguous()
    OPS.rotate(queries, rotation)
    assert torch.equal(queries, rotated[0][:, :3])


def test_no_warp_that_turns_a_head_has_a_copy() -> None:
    """With four warps a half of 64 numbers lay in the registers of two of them twice."""
    for dim in (16, 64, 80, 96, 128, 192, 256, 512):
        half, warps = triton.next_power_of_2(dim // 2), rotary.num_warps(dim)
        assert warps == 1 or 32 * warps <= half


def test_padding_rows_write_nothing() -> None:
    plan, num_blocks = plan_of([(1, 5), (3, 2)], block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    batch.slot_mapping[1:] = -1
    cache = torch.zeros(num_blocks, 2, 1, 16, 16, device=DEVICE).bfloat16()
    rotation = (torch.ones(4, 1, 16, device=DEVICE), torch.zeros(4, 1, 16, device=DEVICE))
    OPS.rotate_store(randn(4, 3, 16), rotation, cache, OPS.plan_attention(batch, cache, 1))
    assert cache.any(-1).sum() == 2  # a key and a value


@pytest.mark.parametrize("kept_as", [torch.int8, torch.uint8])
def test_cache_of_8_bits_is_read_as_it_was_written(kept_as: torch.dtype) -> None:
    heads, kv_heads, dim = 4, 2, 32
    plan, num_blocks = plan_of([(40, 0)], block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    qkv = randn(40, heads + 2 * kv_heads, dim)
    rotation = (torch.ones(40, 1, dim, device=DEVICE), torch.zeros(40, 1, dim, device=DEVICE))
    small = torch.zeros(num_blocks, 2, kv_heads, 16, dim + 4, dtype=kept_as, device=DEVICE)
    planned = OPS.plan_attention(batch, small, heads)
    OPS.rotate_store(qkv, rotation, small, planned)
    scales = small[..., dim:].contiguous().view(torch.float32)
    numbers = small[..., :dim].contiguous()
    is_float = kept_as == torch.uint8
    stored = (numbers.view(torch.float8_e4m3fn) if is_float else numbers).float() * scales
    wide = torch.zeros(num_blocks, 2, kv_heads, 16, dim, device=DEVICE).bfloat16()
    ORACLE.rotate_store(qkv, rotation, wide, ORACLE.plan_attention(batch, wide, heads))
    # Half a step of the scale is the largest error, of e4m3 half of 2^-3, or of its least.
    step = torch.maximum(wide.float().abs() / 8, scales / 512) if is_float else scales
    assert bool(((stored - wide.float()).abs() <= step * 0.51 + 1e-6).all())
    out = OPS.attention(qkv[:, :heads], small, planned)
    oracle = ORACLE.plan_attention(batch, stored, heads)
    expected = ORACLE.attention(qkv[:, :heads].float(), stored, oracle)
    torch.testing.assert_close(out.float(), expected, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("width", [1, 100, 576])
def test_norms_are_the_oracles(width: int, dtype: torch.dtype) -> None:
    x, delta = randn(3, width + 5, dtype=dtype)[:, :width], randn(3, width, seed=1, dtype=dtype)
    weight, tolerance = randn(width, seed=2).float(), TOLERANCE[dtype]
    for added in (None, delta):
        for out, expected in zip(
            OPS.add_rms_norm(x, added, weight, 1e-5),
            ORACLE.add_rms_norm(x, added, weight, 1e-5),
            strict=True,
        ):
            torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("has_weight", [True, False])
def test_norms_of_heads_are_the_oracles(has_weight: bool) -> None:
    heads = randn(3, 4, 40)
    weight = randn(40, seed=2).float() if has_weight else None
    expected, out = heads.clone(), heads.clone()
    OPS.head_norm(out[:, :3], weight, 1e-6)
    ORACLE.head_norm(expected[:, :3], weight, 1e-6)
    torch.testing.assert_close(out, expected, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("gate", get_args(Gate))
def test_gated_norms_are_the_oracles(gate: Gate) -> None:
    x, gates = randn(3, 4, 40), randn(3, 200, seed=1)[:, :160]
    for weight in (randn(40, seed=2).float(), randn(4, 40, seed=2).float()):
        norm = GatedNorm(weight, 1e-6, gate, gate_scale=0.7)
        out, expected = OPS.gated_norm(x, gates, norm), ORACLE.gated_norm(x, gates, norm)
        torch.testing.assert_close(out, expected, rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_gates_are_the_oracles(activation: Activation) -> None:
    gate_up = 3 * randn(3, 2300, dtype=torch.float32)[:, :2100]
    expected = ORACLE.gate_mul(gate_up, activation)
    torch.testing.assert_close(OPS.gate_mul(gate_up, activation), expected, rtol=1e-5, atol=1e-5)


def test_clamped_gate_is_the_oracles() -> None:
    clamp = GateClamp(limit=2.0, alpha=1.702, offset=1.0)
    gate_up = 3 * randn(3, 80, dtype=torch.float32)
    expected = ORACLE.clamped_gate_mul(gate_up, clamp)
    torch.testing.assert_close(OPS.clamped_gate_mul(gate_up, clamp), expected, rtol=1e-5, atol=1e-5)


def test_steps_without_rows_are_nothing() -> None:
    empty = torch.empty(0, 64, device=DEVICE)
    assert OPS.silu_mul(empty).shape == (0, 32)
    assert OPS.add_rms_norm(empty, empty, torch.ones(64, device=DEVICE), 1e-5)[1].shape == (0, 64)
