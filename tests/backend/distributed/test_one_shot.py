"""Sums in one go: memory of all ranks in one process, whose barrier is that of threads."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from backend.distributed.one_shot import OneShotSum, is_right
from backend.distributed.tensor_parallel import TensorParallel
from tests.backend.tp_ranks import run_ranks

pytest.importorskip("triton", reason="Triton is not installed")
LIMIT = 1 << 14
# The interpreter puts its own functions into Triton's while it runs: one kernel at a time.
_INTERPRETER = threading.Lock()


class Handle:
    """A rank's view of memory that all of a process see."""

    def __init__(self, memories: list[Tensor], barrier: threading.Barrier) -> None:
        self.addresses = torch.tensor([memory.data_ptr() for memory in memories])
        self._barrier = barrier

    @property
    def buffer_ptrs_dev(self) -> int:
        return self.addresses.data_ptr()

    def barrier(self, channel: int = 0, timeout_ms: int = 0) -> None:
        _INTERPRETER.release()
        self._barrier.wait(600)
        _INTERPRETER.acquire()


def run_one_shot(size: int, work: Callable[[TensorParallel, OneShotSum], Tensor]) -> list[Tensor]:
    memories = [torch.zeros(2 * LIMIT, dtype=torch.uint8) for _ in range(size)]
    barrier = threading.Barrier(size)

    def run(tp: TensorParallel) -> Tensor:
        handle = Handle(memories, barrier)
        one_shot = OneShotSum(tp.rank, size, memories[tp.rank], handle, LIMIT)
        all_reduce = one_shot.all_reduce

        def locked(x: Tensor) -> Tensor:
            with _INTERPRETER:
                return all_reduce(x)

        one_shot.all_reduce = locked  # type: ignore[method-assign]
        return work(tp, one_shot)

    return run_ranks(size, run)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_sums_have_the_bits_of_shared_memory(size: int, dtype: torch.dtype) -> None:
    """Several in turn, of sizes that do and do not fill a block, one of them the limit.

    float16 stands for bfloat16, which the interpreter does not round but cuts off.
    """
    lengths = [1, 1500, LIMIT // dtype.itemsize, 7]
    parts = [[torch.randn(n).to(dtype) for _ in range(size)] for n in lengths]

    def work(tp: TensorParallel, one_shot: OneShotSum) -> Tensor:
        sums = [one_shot.all_reduce(part[tp.rank].clone()) for part in parts]
        own = [tp.all_reduce(part[tp.rank].clone()) for part in parts]
        assert all(torch.equal(a, b) for a, b in zip(sums, own, strict=True))
        return torch.cat(sums)

    first, *others = run_one_shot(size, work)
    assert all(torch.equal(first, other) for other in others)


def test_what_is_long_or_no_number_of_a_model_is_left() -> None:
    one_shot = OneShotSum(0, 2, torch.zeros(2 * LIMIT, dtype=torch.uint8), None, LIMIT)  # type: ignore[arg-type]
    assert one_shot.takes(torch.zeros(LIMIT // 4))
    assert not one_shot.takes(torch.zeros(LIMIT // 4 + 1))
    assert not one_shot.takes(torch.zeros(0))
    assert not one_shot.takes(torch.zeros(4, dtype=torch.int32))


def test_wrong_sums_on_one_rank_are_found_by_all() -> None:
    def work(tp: TensorParallel) -> tuple[bool, bool]:
        def faulty(x: Tensor) -> Tensor:
            total = tp.all_reduce(x)
            return total + (tp.rank == 1)

        device = torch.device("cpu")
        return is_right(tp, tp.all_reduce, device), is_right(tp, faulty, device)

    assert run_ranks(2, work) == [(True, False)] * 2
    assert run_ranks(3, lambda tp: tp.agrees(tp.rank != 2)) == [False] * 3
