"""Every level has the same bits in what it does in float32.

Those that multiply pairs of bf16 have bits of their own in attention over bf16."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.config.spec import Activation, Norm
from backend.linear.native import NativeKernel
from backend.native import absence, kernels, levels
from backend.ops.batch import AttentionSpec, Batch
from backend.ops.cumulative_probs import CumulativeProbs
from backend.ops.delta_rule import DeltaHeads
from backend.ops.gated_norm import GatedNorm
from backend.ops.kv_cache import SCALE_BYTES
from backend.ops.latent import RowNorm
from backend.ops.native import NativeOps
from backend.ops.native_latent import NativeLatentAttention
from backend.ops.routing import SharedExpert
from backend.ops.ssm_scan import SsmHeads
from backend.ops.token_masks import apply_masks
from backend.ops.tokenwise import Opening
from backend.ops.topk import topk
from backend.quant.weight_format import WeightFormat
from tests.backend.attention_cases import BLOCK_SIZE, CPU, AttentionCase, plan_of, randn
from tests.backend.ops.state_batches import state_batch
from tests.backend.routers import plain_router

pytestmark = [pytest.mark.numerics, pytest.mark.skipif(kernels is None, reason=absence)]


def attention(window: int, softcap: float, kv_bits: int = 16, dim: int = 80) -> list[Tensor]:
    spec = AttentionSpec(window=window, softcap=softcap)
    sequences = [(1, 1500), (1, 3), (1, 70), (90, 40)]
    has_sinks = softcap > 0
    case = AttentionCase(sequences, 7, 1, dim, spec=spec, has_sinks=has_sinks, kv_bits=kv_bits)
    return [case.result()]


def norm() -> list[Tensor]:
    x, delta = randn(2, 5, 72)
    return list(NativeOps().add_rms_norm(x, delta, randn(72, seed=1), 1e-5))


def silu() -> list[Tensor]:
    gate_up = 40 * randn(4, 2 * 99)
    gate_up[0, :4] = torch.tensor([torch.inf, -torch.inf, -300.0, 1e-39])
    return [NativeOps().silu_mul(gate_up)]


def gelu() -> list[Tensor]:
    gate_up = 12 * randn(4, 2 * 99)
    gate_up[0, :4] = torch.tensor([torch.inf, -300.0, 300.0, 1e-39])
    return [NativeOps().gate_mul(gate_up, "gelu_tanh")]


def gates() -> list[Tensor]:
    """Every function of a gate, with something to gate and without, rows that lie apart; sums."""
    both, ops = 12 * randn(4, 2 * 99), NativeOps()
    both[0, :4] = torch.tensor([torch.inf, -300.0, 300.0, 1e-39])
    gate, up = both[:, :99], both[:, 99:]
    functions: list[Activation] = ["silu", "gelu", "gelu_tanh", "relu", "relu2"]
    found = [ops.activate(gate, function) for function in functions]
    openings: list[Opening] = [*functions, "sigmoid", "linear"]
    found += [ops.gate_by(gate, up, opening) for opening in openings]
    x, y = randn(2, 4, 99, seed=1)
    return [*found, ops.add(x, y), ops.add(x, y, 0.37), ops.scale(x, 1.7)]


def layer_norms() -> list[Tensor]:
    x, delta = 3 + randn(2, 5, 72)
    weight, bias = randn(2, 72, seed=1)
    ops = NativeOps()
    return [
        *ops.add_layer_norm(x, delta, weight, bias, 1e-5),
        *ops.add_layer_norm(x, None, None, None, 1e-5),
    ]


def experts() -> list[Tensor]:
    """All that a router may have, a share of the experts, a shared one behind a gate."""
    bias, correction, scales = randn(3, 40, seed=1).float()
    router = replace(
        plain_router(40, 5),
        own=range(3, 33),
        score="sigmoid",
        weight_scale=2.5,
        bias=bias,
        correction=correction,
        scales=scales,
        logit_scale=0.7,
        num_groups=8,
        top_groups=5,
    )
    logits, x = 3 * randn(9, 40).float(), randn(9, 72, seed=2)
    ops, plain = NativeOps(), replace(router, score="softmax", num_groups=1)
    found = []
    for how in (router, plain):
        routes = ops.route(logits, how)
        rows, count = ops.gather_rows(x, routes), int(routes.ends[-1])
        shared = SharedExpert(randn(9, 72, seed=3), x, randn(72, seed=4).float() / 8)
        found += [routes.weights, routes.ends, routes.rows[:count], rows[:count]]
        order = torch.arange(96, dtype=torch.int32).mul(7).remainder(73)
        found += [NativeKernel(WeightFormat.Q4_0, "mixed").take_columns(x, order)]
        found += [ops.sum_experts(rows, routes), ops.sum_experts(rows, routes, shared)]
    return found


def head_norms() -> list[Tensor]:
    heads, plain = randn(5, 7, 72), randn(5, 7, 72, seed=1)
    NativeOps().head_norm(heads[:, 2:6], randn(72, seed=2), 1e-5)
    NativeOps().head_norm(plain, None, 1e-5)
    each = 3 + randn(5, 7, 72, seed=3)
    NativeOps().norm_each_head(each, randn(7, 72, seed=4), Norm(kind="layer", eps=1e-5))
    return [heads, plain, each]


def rotation(dtype: torch.dtype) -> list[Tensor]:
    plan, num_blocks = plan_of([(1, 5), (3, 2)])
    ops, width = NativeOps(), 80 + (SCALE_BYTES if dtype == torch.int8 else 0)
    cache = torch.zeros(num_blocks, 2, 2, BLOCK_SIZE, width, dtype=dtype)
    qkv, angles = randn(plan.num_tokens, 7, 80), randn(plan.num_tokens, 1, 80, seed=1).float()
    rotations = (angles.cos().bfloat16(), angles.sin().bfloat16())
    ops.rotate_store(
        qkv, rotations, cache, ops.plan_attention(Batch.from_plan(plan, CPU), cache, 3)
    )
    return [qkv, cache]


def selection() -> list[Tensor]:
    best = topk(randn(5, 1001).float(), 40, np.array([4, 0, 2]))
    return [torch.from_numpy(each) for each in best]


def probabilities() -> list[Tensor]:
    logits = 4 * randn(5, 3001).float()
    logits[3, 100:] = -torch.inf
    logits[4] = -torch.inf
    apply_masks(logits, np.array([1]), np.full((1, 90), 0x1234567, np.int32), 7)
    probs = CumulativeProbs(logits, np.arange(5), np.linspace(0.2, 2, 5))
    places = probs.invert(np.arange(4), np.linspace(0, 0.999, 4))
    return [logits, torch.from_numpy(probs.logsumexp), torch.from_numpy(places)]


def delta_rule() -> list[Tensor]:
    """Two sequences, more tokens than a block of the kernel, an odd number of panels."""
    num_tokens, key_dim, value_dim = 70, 32, 48
    heads = DeltaHeads(
        2,
        key_dim,
        value_dim,
        torch.tensor([0, 0, 1], dtype=torch.int32),
        -torch.tensor([0.01, 1.0, 16.0]),
        torch.tensor([1.0, -4.0, 0.3]),
        1e-6,
    )
    gates = 4 * randn(num_tokens, 6, seed=1)
    state = randn(3, 3, key_dim, value_dim).float()
    x = randn(num_tokens, 4 * key_dim + 3 * value_dim)
    states = state_batch([(1, 2, 1)], [(num_tokens - 1, -1, 0)])
    out = NativeOps().delta_rule(x, gates[:, :3], gates[:, 3:], heads, state, states)
    return [out, state]


def gated_norm() -> list[Tensor]:
    x, gate, ops = randn(5, 3, 48), 4 * randn(5, 144, seed=1), NativeOps()
    found = [ops.gated_norm(x, gate, GatedNorm(randn(48).float(), 1e-6))]
    for order in ("before", "alone"):
        norm = GatedNorm(randn(3, 48, seed=2).float(), 1e-6, order, 0.7, 96)
        found += [ops.gated_squares(x, gate, norm), ops.gated_norm(x, gate, norm)]
    return found


def ssm_scan() -> list[Tensor]:
    """Two sequences, more tokens than a block of the kernel, an odd number of panels."""
    num_tokens, head_dim, state_dim = 21, 48, 32
    heads = SsmHeads(
        2,
        head_dim,
        state_dim,
        torch.tensor([0, 0, 1], dtype=torch.int32),
        -torch.tensor([0.01, 1.0, 16.0]),
        torch.tensor([1.0, -4.0, 0.3]),
        torch.tensor([1.0, 0.0, -2.0]),
        0.1,
        5.0,
        0.7,
    )
    state = randn(3, 3, head_dim, state_dim).float()
    x = randn(num_tokens, 3 * head_dim + 4 * state_dim)
    states = state_batch([(1, 2, 1)], [(num_tokens - 1, -1, 0)])
    out = NativeOps().ssm_scan(x, 4 * randn(num_tokens, 3, seed=1), heads, state, states)
    return [out, state]


def latent_attention() -> list[Tensor]:
    """Rows that are no whole number of vectors, contexts of two pieces, more heads than fit."""
    plan, num_blocks = plan_of([(1, 1500), (1, 3), (30, 40)], block_size=16)
    cache = randn(num_blocks, 1, 1, 16, 72)
    queries = randn(plan.num_tokens, 100, 72, seed=1)
    latent = NativeLatentAttention(Batch.from_plan(plan, CPU), cache, 100, 64)
    return [latent.attend(queries, cache, 64, 0.3)]


def latent_rows() -> list[Tensor]:
    """Turned and stored, as neighbours and as halves that are no whole number of vectors."""
    plan, num_blocks = plan_of([(1, 15), (30, 40)], block_size=16)
    angles = randn(plan.num_tokens, 1, 24, seed=1).float()
    rotations = (angles.cos().bfloat16(), angles.sin().bfloat16())
    rows, turning = randn(plan.num_tokens, 72), randn(plan.num_tokens, 5, 24, seed=2)
    found = []
    for is_interleaved in (True, False):
        cache = torch.zeros(num_blocks, 1, 1, 16, 72, dtype=torch.bfloat16)
        queries = torch.zeros(plan.num_tokens, 5, 72, dtype=torch.bfloat16)
        latent = NativeLatentAttention(Batch.from_plan(plan, CPU), cache, 5, 48)
        norm = RowNorm(randn(48, seed=3), 1e-6, is_interleaved)
        latent.store_turned(rows, turning, queries, norm, rotations, cache)
        found += [cache, queries]
    return found


CASES: dict[str, Callable[[], list[Tensor]]] = {
    "attention": lambda: attention(0, 0.0),
    "attention with window, cap and sinks": lambda: attention(100, 8.0),
    "attention over 8 bits": lambda: attention(0, 0.0, 8),
    "attention with the largest heads": lambda: attention(100, 0.0, dim=512),
    "attention with the largest heads over 8 bits": lambda: attention(0, 0.0, 8, dim=512),
    "attention to compressed keys": latent_attention,
    "compressed keys": latent_rows,
    "norm": norm,
    "silu": silu,
    "gelu": gelu,
    "gates and sums": gates,
    "layer norm": layer_norms,
    "experts": experts,
    "norms of heads": head_norms,
    "delta rule": delta_rule,
    "gated norm": gated_norm,
    "state space": ssm_scan,
    "rotation": lambda: rotation(torch.bfloat16),
    "rotation to 8 bits": lambda: rotation(torch.int8),
    "topk": selection,
    "sampling": probabilities,
}

OF_PAIRS = {
    "attention",
    "attention with window, cap and sinks",
    "attention with the largest heads",
}
"""Cases that one level computes by products of pairs of bf16; tests/backend/ops holds those to the
oracle, as all others."""


@pytest.fixture
def best_level() -> Iterator[None]:
    """Have the best level serve again, whichever a test has left."""
    yield
    kernels.use(levels()[0])


@pytest.mark.usefixtures("best_level")
@pytest.mark.parametrize("case", CASES)
def test_levels_have_the_same_bits(case: str) -> None:
    results: dict[tuple[bool, str], list[Tensor]] = {}
    for level in levels():
        kernels.use(level)
        results[case in OF_PAIRS and level == "avx512_bf16", level] = CASES[case]()
    for (multiplies_pairs, _), tensors in results.items():
        alike = [each for (pairs, _), each in results.items() if pairs == multiplies_pairs]
        for tensor, other in zip(tensors, alike[0], strict=True):
            torch.testing.assert_close(tensor, other, rtol=0, atol=0, equal_nan=True)
