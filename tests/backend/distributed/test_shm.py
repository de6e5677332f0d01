"""Sums and gathers between ranks."""

import pytest
import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.local.rank_exchange import SLOT_BYTES
from tests.backend.tp_ranks import run_ranks


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 7), (0, 64), (5, 64), (3, SLOT_BYTES // 4)])
def test_all_reduce_gives_every_rank_the_same_bits(
    size: int, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    parts = [torch.randn(shape, generator=torch.Generator().manual_seed(r)).to(dtype)
             for r in range(size)]  # fmt: skip
    expected = pairwise([part.float() for part in parts])
    sums = run_ranks(size, lambda tp: tp.all_reduce(parts[tp.rank].clone()))
    for total in sums:
        assert torch.equal(total, expected.to(dtype))


def pairwise(parts: list[Tensor]) -> Tensor:
    """Neighbours first, then neighbouring pairs: a branch for each half that is a power of two."""
    if len(parts) == 1:
        return parts[0]
    half = 1 << (len(parts) - 1).bit_length() - 1
    return pairwise(parts[:half]) + pairwise(parts[half:])


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3)])
def test_all_gather_gives_every_rank_what_each_has(size: int, shape: tuple[int, int]) -> None:
    gathered = run_ranks(size, lambda tp: tp.all_gather(torch.full(shape, tp.rank)))
    for rows in gathered:
        assert rows.shape == (size, *shape)
        assert torch.equal(rows, torch.arange(size)[:, None, None].expand(size, *shape))


def test_all_reduce_calls_do_not_overtake_each_other() -> None:
    def work(tp: TensorParallel) -> list[Tensor]:
        sums = []
        for call in range(500):
            x = torch.full((1 + call % 17,), float(call * 10 + tp.rank))
            sums.append(tp.all_reduce(x))
        return sums

    for sums in run_ranks(3, work):
        assert [float(s[0]) for s in sums] == [call * 30 + 3 for call in range(500)]


def test_first_rank_hands_out_what_it_has() -> None:
    def work(tp: TensorParallel) -> list[Tensor]:
        return [tp.hand_out(torch.full((size,), tp.rank)) for size in (3, SLOT_BYTES // 4, 0, 5)]

    for handed in run_ranks(3, work):
        assert [int(x.sum()) for x in handed] == [0] * 4
