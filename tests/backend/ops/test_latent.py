"""Attention over compressed rows: its formula, and bits that depend on the position alone."""

import pytest
import torch
from torch import Tensor

from backend.ops.batch import Batch
from backend.ops.latent import LatentAttention
from backend.step import PlannedSequence, build_plan
from tests.backend.attention_cases import CPU
from tests.backend.stored_weights import randn

BLOCK_SIZE, WIDTH, VALUE_DIM, HEADS, SCALE = 4, 24, 16, 3, 0.3


def batch_of(*sequences: tuple[int, int]) -> Batch:
    """Sequences of (tokens computed before, tokens of the step), in blocks of their own."""
    planned, first = [], 0
    for before, count in sequences:
        blocks = -(-(before + count) // BLOCK_SIZE)
        table = [*range(first, first + blocks)][::-1]  # in no order
        planned.append(PlannedSequence([1] * count, before, table, 0, 0))
        first += blocks
    return Batch.from_plan(build_plan(1, planned, [], BLOCK_SIZE), CPU)


def filled(cache: Tensor, batch: Batch, rows: list[Tensor]) -> None:
    """Write the rows [L, W] of each sequence before the step."""
    for s, own in enumerate(rows):
        places = torch.arange(len(own))
        blocks = batch.block_tables[s].long()[places // BLOCK_SIZE]
        cache[blocks, 0, 0, places % BLOCK_SIZE] = own


def expected(queries: Tensor, rows: Tensor) -> Tensor:
    """Of the last t tokens of a sequence: queries [t, H, W], rows [L, W] -> [t, H, V]."""
    out = []
    for index, query in enumerate(queries.double()):
        seen = rows[: len(rows) - len(queries) + index + 1].double()
        out.append((SCALE * query @ seen.T).softmax(-1) @ seen[:, :VALUE_DIM])
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
