"""Sums and gathers over several machines: threads here, over socket pairs."""

import socket
from collections.abc import Callable
from itertools import combinations
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from backend.distributed.nodes_parallel import ONE_WAY_BYTES, NodesParallel
from backend.distributed.shm import SharedMemoryParallel
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.channel import ChannelBroken
from backend.wire.local.rank_exchange import SLOT_BYTES, RankExchange
from backend.wire.tcp.node_exchange import NodeExchange
from backend.wire.tcp.stream import Stream
from tests.backend.tp_ranks import run_ranks, run_threads

T = TypeVar("T")


def run_nodes(num_nodes: int, each: int, work: Callable[[TensorParallel], T]) -> list[T]:
    """Return what `work` gives on each of so many ranks on so many nodes."""
    streams: list[dict[int, Stream]] = [{} for _ in range(num_nodes)]
    for a, b in combinations(range(num_nodes), 2):
        streams[a][b], streams[b][a] = map(Stream, socket.socketpair())
    exchanges = [RankExchange(each) for _ in range(num_nodes)] if each > 1 else []

    def run(rank: int) -> T:
        node, place = divmod(rank, each)
        near = TensorParallel()
        if each > 1:
            near = SharedMemoryParallel(place, each, exchanges[node].view(place))
        far = NodeExchange(streams[node]) if place == 0 else None
        tp = NodesParallel(near, num_nodes, node, far)
        try:
            return work(tp)
        finally:
            tp.abort()

    results = run_threads(range(num_nodes * each), run, 600.0)
    for exchange in exchanges:
        exchange.close()
    return results


@pytest.mark.numerics
@pytest.mark.parametrize(("nodes", "each"), [(2, 1), (3, 1), (4, 1), (2, 2), (2, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_have_the_bits_of_one_machine(nodes: int, each: int, dtype: torch.dtype) -> None:
    size = nodes * each
    shapes = [(1, 7), (0, 64), (5, ONE_WAY_BYTES // 8), (3, SLOT_BYTES // 4 + 3)]
    parts = [[torch.randn(shape).to(dtype) for _ in range(size)] for shape in shapes]

    def work(tp: TensorParallel) -> list[Tensor]:
        return [tp.all_reduce(part[tp.rank].clone()) for part in parts]

    here = run_ranks(size, work)[0]
    for sums in run_nodes(nodes, each, work):
        for total, expected in zip(sums, here, strict=True):
            assert torch.equal(total, expected)


@pytest.mark.parametrize(("nodes", "each"), [(2, 1), (3, 1), (2, 3)])
@pytest.mark.parametrize("kind", [torch.int64, torch.bool])
def test_gathers_give_what_each_rank_has(nodes: int, each: int, kind: torch.dtype) -> None:
    size = nodes * each

    def work(tp: TensorParallel) -> tuple[Tensor, Tensor]:
        x = torch.full((2, 3), tp.rank).to(kind)
        return tp.all_gather(x), tp.all_gather(x[:0])

    for gathered, empty in run_nodes(nodes, each, work):
        assert torch.equal(gathered[:, 1, 2], torch.arange(size).to(kind))
        assert gathered.shape == (size, 2, 3) and empty.shape == (size, 0, 3)


def test_node_that_is_gone_is_told_of_and_not_waited_for() -> None:
    def work(tp: TensorParallel) -> str:
        tp.all_reduce(torch.ones(1))
        if tp.rank == 1:
            tp.abort()
            return "left"
        with pytest.raises(ChannelBroken):
            tp.all_reduce(torch.ones(1))
        return "was told"

    assert run_nodes(2, 1, work) == ["was told", "left"]
