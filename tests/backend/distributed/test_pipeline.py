"""Streams between stages: what goes over a network goes over it once."""

import queue

import pytest
import torch
from torch import Tensor

from backend.distributed.pipeline import PIECE_BYTES, Pipeline
from backend.distributed.tensor_parallel import TensorParallel
from backend.wire.link import Payload
from tests.backend.tp_ranks import run_ranks


class QueueLink:
    """A link in one direction, whose both ends are in this process."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def fileno(self) -> int:
        raise NotImplementedError

    def send(self, payload: Payload) -> None:
        self.num_bytes += len(payload)
        self._queue.put(bytes(payload))

    def receive(self) -> Payload:
        return self._queue.get(timeout=30)

    def read(self) -> list[Payload]:
        raise NotImplementedError

    def close(self) -> None: ...


@pytest.mark.parametrize("tp", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (0, 8), (3, PIECE_BYTES // 2)])
@pytest.mark.parametrize("is_far", [True, False])
def test_stream_of_ranks_goes_over_a_network_once(
    tp: int, shape: tuple[int, int], is_far: bool
) -> None:
    x = torch.arange(shape[0] * shape[1]).view(shape).to(torch.bfloat16)
    links = [QueueLink() for _ in range(tp)]

    def send(ranks: TensorParallel) -> None:
        shares = ranks if is_far else None
        Pipeline(0, 2, after=links[ranks.rank], shares_after=shares).send(x)

    def receive(ranks: TensorParallel) -> Tensor:
        shares = ranks if is_far else None
        stage = Pipeline(1, 2, links[ranks.rank], shares_before=shares)
        return stage.receive(shape, torch.bfloat16, torch.device("cpu"))

    run_ranks(tp, send)
    for received in run_ranks(tp, receive):
        assert torch.equal(received, x)
    assert sum(link.num_bytes for link in links) == x.nbytes * (1 if is_far else tp)
