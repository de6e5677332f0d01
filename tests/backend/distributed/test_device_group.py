"""Groups of ranks on devices: which way numbers go, and how such a group ends."""

import contextlib
import multiprocessing
import os
import queue
import time
from multiprocessing.connection import Connection

import pytest
import torch
from torch import Tensor

from backend.distributed.device_group import DeviceGroup, join_devices
from backend.distributed.peers import PeerWatch
from backend.distributed.shm import SharedMemoryParallel
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.local.rank_exchange import RankExchange, RankExchangeFds
from tests.backend.tp_ranks import gloo_of, open_memory, run_ranks


class Recorded(TensorParallel):
    """Sums nothing, and remembers who came."""

    description = "recorded"

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        super().__init__(rank, size)
        self.calls: list[str] = []

    def all_reduce(self, x: Tensor) -> Tensor:
        self.calls.append("sum")
        return x

    def all_gather(self, x: Tensor) -> Tensor:
        self.calls.append("gather")
        return x[None]

    def abort(self) -> None:
        self.calls.append("abort")


def test_tensors_go_by_where_they_lie() -> None:
    def work(host: TensorParallel) -> list[str]:
        devices = Recorded(host.rank, host.size)
        group = DeviceGroup(host, devices)
        assert group.description == "recorded"
        assert group.all_gather(torch.tensor([host.rank])).flatten().tolist() == [0, 1]
        assert group.all_reduce(torch.ones(1)) == 2
        on_device = torch.ones(2, device="meta")
        group.all_reduce(on_device)
        group.all_gather(on_device)
        return devices.calls

    assert run_ranks(2, work) == [["sum", "gather"]] * 2


def test_group_that_was_given_up_says_so() -> None:
    def work(host: TensorParallel) -> None:
        devices = Recorded(host.rank, host.size)
        group = DeviceGroup(host, devices)
        group.check()
        group.abort()
        assert devices.calls == ["abort"]
        with pytest.raises(RuntimeError, match="given up"):
            group.check()

    run_ranks(2, work)


def test_ranks_on_the_cpu_and_single_ones_stay_as_they_are() -> None:
    host = Recorded(0, 2)
    assert join_devices(host, torch.device("cpu"), -1) is host
    alone = TensorParallel()
    assert join_devices(alone, torch.device("cuda", 0), -1) is alone


def test_two_ranks_on_one_card_take_gloo() -> None:
    store = open_memory()

    def work(host: TensorParallel) -> str:
        return join_devices(host, torch.device("cuda", 3), store).description

    assert all("by gloo" in words for words in run_ranks(2, work))


def test_watch_tells_which_process_has_ended() -> None:
    forking = multiprocessing.get_context("fork")
    own, child = os.getpid(), forking.Process(target=time.sleep, args=(600,))
    child.start()
    assert child.pid is not None
    told: queue.SimpleQueue[int] = queue.SimpleQueue()
    PeerWatch([own, child.pid], told.put)
    child.kill()
    assert told.get(timeout=60) == 1
    child.join()
    PeerWatch([own, child.pid], told.put)  # gone before anyone watched
    assert told.get(timeout=60) == 1


def test_death_of_a_rank_breaks_its_group_up() -> None:
    """Two processes: one dies while the other waits for it in a sum, and learns so at once."""
    exchange, store = RankExchange(2), os.memfd_create("store")
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe()
    views = [exchange.view(rank) for rank in range(2)]
    ranks = [
        forking.Process(target=_rank, args=(rank, views[rank], store, theirs)) for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    assert ours.poll(60) and ours.recv() == "waits"
    ranks[1].kill()
    # By itself a sum gives up after half an hour.
    assert ours.poll(60), "the other rank waits for ever"
    assert "has ended" in ours.recv()
    for rank in ranks:
        rank.kill()
        rank.join()
    exchange.close()
    os.close(store)


def _rank(rank: int, fds: RankExchangeFds, store: int, told: Connection) -> None:
    host = SharedMemoryParallel(rank, 2, fds)
    group = DeviceGroup(host, devices := gloo_of(host, store))
    devices.all_reduce(torch.ones(4))
    if rank == 1:
        time.sleep(600)
    told.send("waits")
    with contextlib.suppress(RuntimeError):
        devices.all_reduce(torch.ones(4))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            group.check()
        except RuntimeError as error:
            told.send(str(error))
            return
        time.sleep(0.005)
