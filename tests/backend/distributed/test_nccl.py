"""NCCL's side of a group, without cards: its process group is played by gloo, which has the same
calls; what a card alone can tell is put in its place."""

from datetime import timedelta
from typing import Any

import pytest
import torch
from torch._C import _distributed_c10d
from torch._C._distributed_c10d import Store

from backend.distributed import one_shot
from backend.distributed.nccl import NcclParallel
from backend.distributed.process_group import open_store
from backend.distributed.tensor_parallel import TensorParallel
from tests.backend.tp_ranks import open_memory, run_ranks

c10d: Any = _distributed_c10d
CPU = torch.device("cpu")


class PlayedNccl:
    """What is called of ProcessGroupNCCL. Sums that are in turn give no work back."""

    class Options:
        _timeout = timedelta()

    def __init__(self, store: Store, rank: int, size: int, options: "PlayedNccl.Options") -> None:
        assert options._timeout > timedelta()
        played = c10d.ProcessGroupGloo._Options()
        played._devices = [c10d.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        played._timeout = options._timeout
        self._group = c10d.ProcessGroupGloo(store, rank, size, played)

    def allreduce(self, tensors: list[torch.Tensor], options: Any) -> None:
        assert not options.asyncOp
        self._group.allreduce(tensors, options).wait()

    def _allgather_base(self, gathered: torch.Tensor, x: torch.Tensor, options: Any) -> None:
        assert not options.asyncOp
        self._group._allgather_base(gathered, x, options).wait()

    def abort(self) -> None:
        self._group.abort()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(c10d, "ProcessGroupNCCL", PlayedNccl, raising=False)
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return open_memory()


def sums(host: TensorParallel, store: int) -> tuple[str, float, list[int]]:
    tp = NcclParallel(host, open_store(store, host.size), CPU)
    total = float(tp.all_reduce(torch.full((3, 2), host.rank + 1.0)).sum())
    gathered = tp.all_gather(torch.tensor([host.rank])).flatten().tolist()
    tp.abort()
    return tp.description, total, gathered


def test_cards_that_cannot_read_each_other_leave_all_to_nccl(
    store: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.distributed.nccl.can_read_each_other", lambda *_: False)
    results = run_ranks(2, lambda host: sums(host, store))
    assert results == [("sums over 2 ranks by NCCL", 18.0, [0, 1])] * 2


def test_symmetric_memory_that_is_not_to_be_had_is_done_without(
    store: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A build for CPUs has none: the real calls, up to where they fail."""
    caplog.set_level("INFO")
    monkeypatch.setattr("backend.distributed.nccl.can_read_each_other", lambda *_: True)
    results = run_ranks(2, lambda host: sums(host, store))
    assert results == [("sums over 2 ranks by NCCL", 18.0, [0, 1])] * 2
    assert "one_shot=off" in caplog.text


def test_short_sums_go_in_one(store: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneShot:
        limit_bytes = 16

        def takes(self, x: torch.Tensor) -> bool:
            return x.nbytes <= 16

        def all_reduce(self, x: torch.Tensor) -> torch.Tensor:
            return x.fill_(7)

    monkeypatch.setattr("backend.distributed.nccl.can_read_each_other", lambda *_: True)
    monkeypatch.setattr("backend.distributed.nccl.make_one_shot", lambda *_: OneShot())

    def work(host: TensorParallel) -> tuple[float, float, str]:
        tp = NcclParallel(host, open_store(store, host.size), CPU)
        short, long = tp.all_reduce(torch.ones(4)), tp.all_reduce(torch.ones(5))
        return float(short[0]), float(long[0]), tp.description

    words = "sums over 2 ranks by NCCL, of up to 0 KiB in one go"
    assert run_ranks(2, work) == [(7.0, 2.0, words)] * 2


def test_group_has_the_name_by_which_barriers_look_it_up() -> None:
    memory = open_memory()
    shared = open_store(memory, 1)
    options = c10d.ProcessGroupGloo._Options()
    options._devices = [c10d.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
    options._timeout = timedelta(seconds=10)
    group = c10d.ProcessGroupGloo(shared, 0, 1, options)
    kept = one_shot._register(TensorParallel(), shared, group, CPU)
    assert c10d._resolve_process_group("unisono") is kept
    assert (kept.rank(), kept.size()) == (0, 1)
    c10d._unregister_process_group("unisono")
