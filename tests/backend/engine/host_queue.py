"""A device queue of the host's, which is as strict as a GPU: what a test drives runners with.

A capture launches nothing, a replay runs over what lies in the same places by then, and results are
there when they have been waited for, in order.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from backend.engine.device_queue import Ints

GARBAGE = -12345


class HostDownload:
    def __init__(self, queue: "HostQueue", words: Ints) -> None:
        self._queue, self._words = queue, words
        queue.num_started += 1
        self._number = queue.num_started

    def wait(self) -> Ints:
        assert self._number == self._queue.num_waited + 1, "waited for out of order"
        self._queue.num_waited += 1
        return self._words


class HostRecording:
    def __init__(self, queue: "HostQueue", work: Callable[[], None]) -> None:
        self._queue, self._work = queue, work

    def replay(self) -> None:
        self._queue.num_replays += 1
        self._work()


class HostQueue:
    """num_started, num_waited: downloads. num_replays: of recordings."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.num_started = self.num_waited = self.num_replays = 0
        self.num_recorded = 0
        self.most_in_flight = 0
        self._stage = np.zeros(0, np.int32)

    def stage(self, num_words: int) -> Ints:
        """What is not written is garbage."""
        self._stage = np.full(num_words, GARBAGE, np.int32)
        return self._stage

    def send(self, words: Ints, target: Tensor) -> None:
        assert words is self._stage, "what was not staged cannot be sent"
        assert GARBAGE not in words, "a word was not written"
        target.copy_(torch.from_numpy(words.copy()))
        words[:] = GARBAGE

    def download(self, tensor: Tensor) -> HostDownload:
        assert tensor.dtype == torch.int32
        download = HostDownload(self, tensor.numpy().copy())
        self.most_in_flight = max(self.most_in_flight, self.num_started - self.num_waited)
        return download

    def record(self, work: Callable[[], None]) -> HostRecording:
        self.num_recorded += 1
        return HostRecording(self, work)
