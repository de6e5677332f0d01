"""A device as a queue of work: copies that nobody waits for, recordings of work, results to come.

What is launched runs in order, after the host has gone on. Knows no model, plan or sampler. The
one place that calls torch.cuda's streams, events and graphs; tests drive what is built on it with a
queue of the host's, which runs everything at once.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int32]

# A step's integers wait here until the device has copied them: those of the step that runs, those
# of the next, and the ones being written.
NUM_STAGES = 3


class Recording(Protocol):
    """Work that was recorded, over the addresses that it had then."""

    def replay(self) -> None:
        """Launch all of it again."""
        ...


class Download(Protocol):
    """A tensor on its way to the host."""

    def wait(self) -> Ints:
        """Return it, once the device is through with what was launched before it."""
        ...


class DeviceQueue(Protocol):
    """One device's work, in order."""

    device: torch.device

    def stage(self, num_words: int) -> Ints:
        """Return memory of the host for so many integers, to be written and sent; then another is
        asked for."""
        ...

    def send(self, words: Ints, target: Tensor) -> None:
        """Copy what stage() gave last to target, [n] int32 on the device."""
        ...

    def download(self, tensor: Tensor) -> Download:
        """Begin to copy an int32 tensor to the host. It may be overwritten by what comes later."""
        ...

    def record(self, work: Callable[[], None]) -> Recording:
        """Record what work launches. It has run before, in the same shapes.

        Raises RuntimeError where it does what cannot be recorded; nothing is left behind then.
        """
        ...


class CudaQueue:
    """The current stream of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool: Any = None  # of the graphs
        self._stages: list[Tensor] = [_pinned(0) for _ in range(NUM_STAGES)]
        self._sent: list[torch.cuda.Event | None] = [None] * NUM_STAGES
        self._turn = 0

    def stage(self, num_words: int) -> Ints:
        self._turn = (self._turn + 1) % NUM_STAGES
        if (sent := self._sent[self._turn]) is not None:
            sent.synchronize()  # over since long, unless the host is three steps ahead
        if len(self._stages[self._turn]) < num_words:
            self._stages[self._turn] = _pinned(num_words)
        words: Ints = self._stages[self._turn][:num_words].numpy()
        return words

    def send(self, words: Ints, target: Tensor) -> None:
        target.copy_(self._stages[self._turn][: len(words)], non_blocking=True)
        event = self._sent[self._turn] or torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._sent[self._turn] = event

    def download(self, tensor: Tensor) -> Download:
        return _CudaDownload(tensor)

    def record(self, work: Callable[[], None]) -> Recording:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        stream, graph = torch.cuda.current_stream(self.device), torch.cuda.CUDAGraph()
        try:
            # Other threads of a rank (its heartbeat) may do what they like meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                work()
        except BaseException:
            # Where the capture's end fails as well, torch leaves its own stream the current one.
            torch.cuda.set_stream(stream)
            raise
        return graph


class _CudaDownload:
    """A copy to pinned memory, and the event that says it is there."""

    def __init__(self, tensor: Tensor) -> None:
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record()

    def wait(self) -> Ints:
        self._event.synchronize()
        words: Ints = self._host.numpy()
        return words


def _pinned(num_words: int) -> Tensor:
    pin = torch.cuda.is_available()
    return torch.empty(num_words, dtype=torch.int32, pin_memory=pin)
