"""Attention over compressed rows in Triton, against PyTorch's over the same numbers."""

import pytest
import torch

from backend.ops.batch import Batch
from backend.ops.latent import LatentAttention
from backend.ops.triton import latent
from backend.ops.triton.decode_attention import SPLIT_KEYS
from backend.ops.triton.triton_ops import TritonOps
from tests.backend.attention_cases import plan_of
from tests.backend.ops.triton.test_triton_ops import DEVICE, randn

pytestmark = [pytest.mark.numerics, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


def check(
    sequences: list[tuple[int, int]],
    num_heads: int,
    width: int = 40,
    value_dim: int = 32,
    dtype: torch.dtype = torch.float32,
) -> None:
    """sequences: tokens that run, and those before them. Rows are stored, then attended to."""
    plan, num_blocks = plan_of(sequences, block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    given = randn(num_blocks, 1, 1, 16, width, dtype=dtype)
    caches = [given.clone(), given.clone()]
    rows = randn(plan.num_tokens, width + 3, seed=1, dtype=dtype)[:, :width]
    queries = randn(plan.num_tokens, num_heads, width, seed=2, dtype=dtype)
    plans = [
        TritonOps().plan_latent(batch, caches[0], num_heads, value_dim),
        LatentAttention(batch, caches[1], 64),
    ]
    for each, cache in zip(plans, caches, strict=True):
        each.store(rows, cache)
    assert torch.equal(*caches)
    ours, theirs = (
        each.attend(queries, cache, value_dim, width**-0.5)
        for each, cache in zip(plans, caches, strict=True)
    )
    tolerance = 1e-5 if dtype == torch.float32 else 2**-6
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


# Fewer heads than a tile has, a power of two, and more.
@pytest.mark.parametrize(
    "num_heads", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 16, 40))]
)
def test_latent_attention_is_pytorchs(num_heads: int) -> None:
    check([(1, 37), (1, 0), (9, 30), (2, 0)], num_heads)


def test_latent_attention_of_other_rows() -> None:
    check([(1, 20), (5, 11)], 4, 80, 48, torch.bfloat16)


@pytest.mark.slow
def test_latent_attention_of_deepseeks_rows() -> None:
    check([(1, 20), (5, 11)], 16, 576, 512, torch.bfloat16)


def test_long_latent_contexts_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "MERGED", 2)
    check([(1, SPLIT_KEYS - 1), (1, 2 * SPLIT_KEYS + 9)], 3)


def test_padding_rows_of_latent_steps_write_nothing() -> None:
    plan, num_blocks = plan_of([(1, 5), (1, 40)], block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    batch.slot_mapping[1:] = -1
    batch.lens[1:] = 0
    cache = torch.zeros(num_blocks, 1, 1, 16, 40, device=DEVICE)
    planned = TritonOps().plan_latent(batch, cache, 3, 32)
    planned.store(torch.ones(2, 40, device=DEVICE), cache)
    assert cache.any(-1).sum() == 1
    out = planned.attend(randn(2, 3, 40, dtype=torch.float32), cache, 32, 1.0)
    assert not out[1].any() and out[0].any()


def test_latent_bits_are_those_a_token_has_alone() -> None:
    plan, num_blocks = plan_of([(1, 3), (1, SPLIT_KEYS + 9)], block_size=16)
    batch = Batch.from_plan(plan, DEVICE)
    cache, q = randn(num_blocks, 1, 1, 16, 40), randn(2, 4, 40, seed=1)
    together = TritonOps().plan_latent(batch, cache, 4, 32).attend(q, cache, 32, 0.2)
    for token in range(2):
        alone = TritonOps().plan_latent(batch.alone([token]), cache, 4, 32)
        assert torch.equal(alone.attend(q[token : token + 1], cache, 32, 0.2)[0], together[token])
