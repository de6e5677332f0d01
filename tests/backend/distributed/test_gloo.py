"""Process groups: sums and gathers, by gloo, which needs no device."""

import os

import pytest
import torch
from torch import Tensor

from backend.distributed.process_group import open_store
from backend.distributed.tensor_parallel import TensorParallel
from tests.backend.tp_ranks import open_memory, run_gloo


@pytest.mark.parametrize("size", [2, 3])
def test_sums_and_gathers_are_those_of_shared_memory(size: int) -> None:
    kinds = [(torch.float32, (5, 7)), (torch.bfloat16, (3, 8)), (torch.float32, (0, 4))]
    parts = [[torch.randn(shape).to(dtype) for _ in range(size)] for dtype, shape in kinds]
    ids = [torch.arange(4) + 10 * rank for rank in range(size)]

    def work(tp: TensorParallel) -> tuple[list[Tensor], list[Tensor]]:
        sums = [tp.all_reduce(part[tp.rank].clone()) for part in parts]
        gathers = [tp.all_gather(each) for each in (ids[tp.rank], ids[tp.rank][:0])]
        return sums, gathers

    for sums, (gathered, empty) in run_gloo(size, work):
        for total, part in zip(sums, parts, strict=True):
            expected = torch.stack([each.float() for each in part]).sum(0).to(total.dtype)
            torch.testing.assert_close(total, expected)
        assert torch.equal(gathered, torch.stack(ids))
        assert empty.shape == (size, 0)


def test_ranks_that_share_a_card_say_so() -> None:
    words = run_gloo(2, lambda tp: tp.description)
    assert words == ["sums over 2 ranks by gloo, through the host: they share a device"] * 2


def test_store_leaves_nothing_behind() -> None:
    """It lies in memory without a name; another process reads it through the same descriptor."""
    memory = open_memory()
    open_store(memory, 1).set("answer", "42")
    assert open_store(memory, 1).get("answer") == b"42"
    assert os.fstat(memory).st_size > 0


def test_group_given_up_waits_for_nobody() -> None:
    def work(tp: TensorParallel) -> str:
        tp.all_reduce(torch.ones(1))
        if tp.rank == 1:
            tp.abort()
            return "gave up"
        with pytest.raises(RuntimeError):
            tp.all_reduce(torch.ones(1))
        return "was told"

    assert run_gloo(2, work) == ["was told", "gave up"]
