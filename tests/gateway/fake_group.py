"""A replica group played by hand at the other end of a real channel."""

import os
from collections.abc import Iterable

from backend.wire import messages
from backend.wire.local.channel import create_channel
from backend.wire.local.ends import LocalLeadEnd, LocalWorkerEnd
from backend.wire.messages import FinishReason, Ready, SeqOutput, StepOutput, StepTimings, Submit
from gateway.pool.replicas import ReplicaPool

CREDIT = 10_000


class FakeGroup:
    """One epoch of a group. Attaches itself to the pool; the test calls pump() to have frames read.

    requests: what it was sent, in order.
    """

    def __init__(self, pool: ReplicaPool, replica: int = 0, epoch: int = 1) -> None:
        self.replica, self.epoch = replica, epoch
        channel = create_channel()
        self._end = LocalLeadEnd(epoch, [os.dup(fd) for fd in channel.lead_end])
        end = LocalWorkerEnd(epoch, [os.dup(fd) for fd in channel.worker_end])
        channel.close()
        pool.attach(replica, epoch, end)
        self.requests: list[messages.Request] = []

    def ready(self, credit: int = CREDIT, kv_sequence_tokens: int = 8000) -> None:
        """Say that it takes work."""
        kv = kv_sequence_tokens
        sizes = ("cpu", "float32", "none", 1000, kv, kv, 1 << 20, 1000, 8, [1], 0)
        self._end.send(Ready(self.replica, self.epoch, *sizes, credit))

    def send(self, *outputs: SeqOutput, credit: int = CREDIT) -> None:
        """Send one frame of an idle group."""
        self.report(*outputs, credit=credit)

    def report(self, *outputs: SeqOutput, running: int = 0, credit: int = CREDIT) -> None:
        """Send one frame of a group that runs so many sequences."""
        frame = StepOutput(1, list(outputs), StepTimings(), credit, running, 0, 1000)
        self._end.send(frame)

    def give(
        self, seq_id: int, token_ids: Iterable[int], finish: FinishReason | None = None
    ) -> None:
        """Send one sequence tokens in a frame."""
        self.send(SeqOutput(seq_id, list(token_ids), finish))

    @property
    def submits(self) -> list[Submit]:
        """What it was asked to compute so far."""
        self.requests += self._end.receive()
        return [request for request in self.requests if isinstance(request, Submit)]

    def die(self) -> None:
        """Close its end of the channel, as the kernel does for the dead."""
        self._end.close()
