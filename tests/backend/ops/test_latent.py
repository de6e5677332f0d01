"""Attention over compressed rows: its formula, and bits that depend on the position alone."""

import pytest
import torch
from torch import Tensor

from backend.native import absence, kernels
from backend.ops.batch import Batch
from backend.ops.cpu import CpuOps
from backend.ops.latent import LatentAttention, RowNorm
from backend.ops.native import NativeOps
from backend.ops.native_latent import NativeLatentAttention
from backend.step import PlannedSequence, build_plan
from tests.backend.attention_cases import CPU
from tests.backend.stored_weights import randn

pytestmark = pytest.mark.numerics

BLOCK_SIZE, WIDTH, VALUE_DIM, HEADS, SCALE = 4, 24, 16, 3, 0.3

needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)


def batch_of(*sequences: tuple[int, int], block_size: int = BLOCK_SIZE) -> Batch:
    """Sequences of (tokens computed before, tokens of the step), in blocks of their own."""
    planned, first = [], 0
    for before, count in sequences:
        blocks = -(-(before + count) // block_size)
        table = [*range(first, first + blocks)][::-1]  # in no order
        planned.append(PlannedSequence([1] * count, before, table, 0, 0))
        first += blocks
    return Batch.from_plan(build_plan(1, planned, [], block_size), CPU)


def filled(cache: Tensor, batch: Batch, rows: list[Tensor]) -> None:
    """Write the rows [L, W] of each sequence before the step."""
    for s, own in enumerate(rows):
        places = torch.arange(len(own))
        blocks = batch.block_tables[s].long()[places // cache.shape[3]]
        cache[blocks, 0, 0, places % cache.shape[3]] = own


def expected(queries: Tensor, rows: Tensor, value_dim: int = VALUE_DIM) -> Tensor:
    """Of the last t tokens of a sequence: queries [t, H, W], rows [L, W] -> [t, H, V]."""
    out = []
    for index, query in enumerate(queries.double()):
        seen = rows[: len(rows) - len(queries) + index + 1].double()
        out.append((SCALE * query @ seen.T).softmax(-1) @ seen[:, :value_dim])
    return torch.stack(out)


@pytest.mark.parametrize("tile", [1, 2, 64])
@pytest.mark.parametrize("apart", [0, 7])
def test_every_token_sees_its_sequence_up_to_itself(tile: int, apart: int) -> None:
    """Blocks may have other layers' numbers between them."""
    lengths = [(0, 1), (6, 1), (0, 9), (5, 6)]
    batch = batch_of(*lengths)
    num_blocks = int(batch.block_tables.max()) + 1
    whole = torch.zeros(num_blocks, BLOCK_SIZE * WIDTH + apart)
    cache = whole[:, : BLOCK_SIZE * WIDTH].view(num_blocks, 1, 1, BLOCK_SIZE, WIDTH)
    rows = [randn(before + count, WIDTH, seed=s) for s, (before, count) in enumerate(lengths)]
    filled(cache, batch, [own[:before] for own, (before, _) in zip(rows, lengths, strict=True)])
    queries = randn(batch.query_starts[-1], HEADS, WIDTH, seed=9)
    plan = LatentAttention(batch, cache, tile)
    plan.store(torch.cat([own[b:] for own, (b, _) in zip(rows, lengths, strict=True)]), cache)
    got = plan.attend(queries, cache, VALUE_DIM, SCALE)
    for s, own in enumerate(rows):
        part = slice(*batch.query_starts[s : s + 2])
        wanted = expected(queries[part], own)
        torch.testing.assert_close(got[part].double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_token_alone_has_the_bits_it_has_in_a_chunk(dtype: torch.dtype) -> None:
    rows, queries = randn(300, WIDTH).to(dtype), randn(300, HEADS, WIDTH, seed=1).to(dtype)
    cache = torch.zeros(75, 1, 1, BLOCK_SIZE, WIDTH, dtype=dtype)
    whole = batch_of((0, 300))
    plan = LatentAttention(whole, cache, 1)
    plan.store(rows, cache)
    together = plan.attend(queries, cache, VALUE_DIM, SCALE)
    for before, count in ((0, 1), (63, 1), (64, 1), (100, 7), (299, 1)):
        batch = batch_of((before, count))
        own = torch.zeros_like(cache)
        filled(own, batch, [rows[: before + count]])
        part = queries[before : before + count]
        alone = LatentAttention(batch, own, 1).attend(part, own, VALUE_DIM, SCALE)
        assert torch.equal(alone, together[before : before + count])


@needs_kernels
@pytest.mark.parametrize("width", [40, 72, 576])
def test_own_kernel_sees_what_pytorch_sees(width: int) -> None:
    """Contexts within a piece of 1,024 keys and beyond; heads more than an item has room for."""
    value_dim, lengths = min(512, width // 16 * 16), [(1100, 1), (6, 1), (0, 50), (1000, 70)]
    batch = batch_of(*lengths, block_size=16)
    num_blocks = int(batch.block_tables.max()) + 1
    whole = torch.zeros(num_blocks, 16 * width + 16, dtype=torch.bfloat16)
    cache = whole[:, : 16 * width].view(num_blocks, 1, 1, 16, width)
    rows = [randn(b + n, width, seed=s).bfloat16() for s, (b, n) in enumerate(lengths)]
    filled(cache, batch, rows)
    for heads in (3, 50):
        queries = (2 * randn(batch.query_starts[-1], heads, width, seed=9)).bfloat16()
        got = NativeLatentAttention(batch, cache, heads, value_dim).attend(
            queries, cache, value_dim, SCALE
        )
        for s, own in enumerate(rows):
            part = slice(*batch.query_starts[s : s + 2])
            wanted = expected(queries[part], own, value_dim)
            torch.testing.assert_close(got[part].double(), wanted, rtol=1e-2, atol=1e-2)


@needs_kernels
def test_own_kernel_has_the_same_bits_in_any_batch() -> None:
    rows, width = randn(1200, 72).bfloat16(), 72
    queries = randn(1200, 5, width, seed=1).bfloat16()
    cache = torch.zeros(80, 1, 1, 16, width, dtype=torch.bfloat16)
    whole = batch_of((0, 1200), block_size=16)
    filled(cache, whole, [rows])
    together = NativeLatentAttention(whole, cache, 5, 64).attend(queries, cache, 64, SCALE)
    for before, count in ((0, 1), (63, 1), (64, 1), (100, 7), (1023, 3), (1199, 1)):
        batch = batch_of((before, count), (40, 1), block_size=16)
        own = torch.zeros_like(cache)
        filled(own, batch, [rows[: before + count], rows[:41]])
        asked = torch.cat((queries[before : before + count], queries[:1]))
        if count > 1:  # sequences of one token come first
            batch = batch_of((40, 1), (before, count), block_size=16)
            own = torch.zeros_like(cache)
            filled(own, batch, [rows[:41], rows[: before + count]])
            asked = torch.cat((queries[:1], queries[before : before + count]))
        out = NativeLatentAttention(batch, own, 5, 64).attend(asked, own, 64, SCALE)
        part = out[1:] if count > 1 else out[:1]
        assert torch.equal(part, together[before : before + count])


@needs_kernels
@pytest.mark.parametrize("is_interleaved", [True, False])
@pytest.mark.parametrize(("rank", "turning"), [(32, 8), (512, 64), (48, 24)])
def test_own_kernel_stores_what_pytorch_stores(
    rank: int, turning: int, is_interleaved: bool
) -> None:
    """To two roundings of bf16. Nothing else is written, of the cache or of queries."""
    batch, heads = batch_of((15, 1), (6, 1), (0, 20), block_size=16), 3
    tokens = batch.query_starts[-1]
    projected = 2 * randn(tokens, 40 + rank + turning).bfloat16()
    own = randn(tokens, heads, 24 + turning, seed=1).bfloat16()
    angles = randn(tokens, 1, turning // 2, seed=2)
    rotation = (
        torch.cat((angles.cos(), angles.cos()), -1).bfloat16(),
        torch.cat((-angles.sin(), angles.sin()), -1).bfloat16(),
    )
    norm = RowNorm(randn(rank, seed=3).bfloat16(), 1e-6, is_interleaved)
    results = []
    for ops in (NativeOps(), CpuOps()):
        whole = randn(8, 16 * (rank + turning) + 16, seed=4).bfloat16()
        cache = whole[:, :-16].view(8, 1, 1, 16, rank + turning)
        queries = randn(tokens, heads, rank + turning, seed=5).bfloat16()
        plan = ops.plan_latent(batch, cache, heads, rank)
        rows = projected.clone()[:, 40:]
        ops.store_latent(rows, own[..., 24:].clone(), queries, norm, rotation, cache, plan)
        results.append((whole, queries))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=2**-6, atol=2**-5)
    untouched = randn(tokens, heads, rank + turning, seed=5).bfloat16()[..., :rank]
    assert torch.equal(results[0][1][..., :rank], untouched)
    before = randn(8, 16 * (rank + turning) + 16, seed=4).bfloat16()
    changed = (results[0][0] != before)[:, :-16].view(8, 16, -1).any(-1)
    assert int(changed.sum()) == tokens and not (results[0][0] != before)[:, -16:].any()
