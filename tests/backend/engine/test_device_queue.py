"""A GPU's queue, with what PyTorch does for it played: when host memory is used again, and what a
capture that fails leaves behind."""

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch

from backend.engine.device_queue import NUM_STAGES, CudaQueue


class PlayedEvent:
    """log: of all events, what was done with each, in order."""

    log: ClassVar[list[tuple[str, int]]] = []
    count = 0

    def __init__(self) -> None:
        PlayedEvent.count += 1
        self.number = PlayedEvent.count

    def record(self) -> None:
        self.log.append(("record", self.number))

    def synchronize(self) -> None:
        self.log.append(("wait", self.number))


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> CudaQueue:
    monkeypatch.setattr(torch.cuda, "Event", PlayedEvent)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # nothing is pinned
    monkeypatch.setattr(PlayedEvent, "log", [])
    monkeypatch.setattr(PlayedEvent, "count", 0)
    return CudaQueue(torch.device("cpu"))


def test_memory_is_written_again_when_its_copy_is_over(queue: CudaQueue) -> None:
    target = torch.zeros(8, dtype=torch.int32)
    stages = []
    for step in range(NUM_STAGES + 1):
        words = queue.stage(4 + step)
        words[:] = step
        stages.append(words.ctypes.data)
        queue.send(words, target[: 4 + step])
        assert target[: 4 + step].tolist() == [step] * (4 + step)
    assert len(set(stages[:NUM_STAGES])) == NUM_STAGES
    records = [("record", n + 1) for n in range(NUM_STAGES)]
    assert PlayedEvent.log == [*records, ("wait", 1), ("record", 1)]


def test_capture_that_fails_leaves_the_stream_as_it_was(
    queue: CudaQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.cuda.graph leaves its own stream the current one where its end fails as well."""
    current, pools = ["own"], []

    @contextlib.contextmanager
    def graph(graph: object, pool: object, capture_error_mode: str) -> Iterator[None]:
        pools.append(pool)
        current[0] = "capture's"
        yield
        current[0] = "own"

    def fail() -> None:
        raise RuntimeError("not permitted")

    played: dict[str, Any] = {
        "graph": graph,
        "CUDAGraph": object,
        "graph_pool_handle": lambda: (0, 1),
        "current_stream": lambda device: current[0],
        "set_stream": lambda stream: current.__setitem__(0, stream),
    }
    for name, value in played.items():
        monkeypatch.setattr(torch.cuda, name, value)
    with pytest.raises(RuntimeError, match="not permitted"):
        queue.record(fail)
    assert current == ["own"]
    done: list[int] = []
    queue.record(lambda: done.append(1))
    assert done == [1] and pools == [(0, 1), (0, 1)]
