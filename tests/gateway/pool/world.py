"""A pool with clients, and groups played by hand."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from backend.wire.messages import FinishReason, SeqOutput
from backend.wire.sampling import SamplingParams
from gateway.pool.listener import PoolListener
from gateway.pool.replicas import ReplicaPool
from gateway.pool.submit_options import SubmitOptions
from tests.gateway.fake_group import FakeGroup

PROMPT = [1, 2, 3]


@dataclass
class Client:
    """A receiver of one or more sequences."""

    tokens: list[int] = field(default_factory=list)
    scores: int = 0
    finish: FinishReason | None = None
    error: SeqOutput | None = None
    num_sent: int = 0

    def sent(self, seq_id: int) -> None:
        self.num_sent += 1

    def receive(self, output: SeqOutput) -> None:
        assert self.finish is None, "nothing follows the end"
        self.tokens += output.token_ids
        self.scores += len(output.prompt_logprobs)
        self.finish = output.finish_reason
        if output.finish_reason is FinishReason.ERROR:
            self.error = output


@dataclass
class CutListener(PoolListener):
    """Notes which channels were cut, as (replica, epoch)."""

    cut: list[tuple[int, int]] = field(default_factory=list)

    def on_cut(self, replica: int, epoch: int) -> None:
        self.cut.append((replica, epoch))


class World:
    """A pool, its clients, and the event loop's turns. now_s: its clock, moved by hand."""

    def __init__(
        self,
        resume_seconds: float = 60.0,
        *,
        max_waiting: int = 4096,
        queue_seconds: float = 60.0,
    ) -> None:
        self.now_s = 1000.0
        self.listener = CutListener()
        self.pool = ReplicaPool(
            1000,
            listener=self.listener,
            resume_seconds=resume_seconds,
            max_waiting=max_waiting,
            queue_seconds=queue_seconds,
            clock=lambda: self.now_s,
        )

    def group(
        self,
        replica: int = 0,
        epoch: int = 1,
        credit: int = 10_000,
        kv_sequence_tokens: int = 8000,
    ) -> FakeGroup:
        group = FakeGroup(self.pool, replica, epoch)
        group.ready(credit, kv_sequence_tokens)
        return group

    def submit(
        self,
        client: Client,
        prompt_ids: Iterable[int] = PROMPT,
        options: SubmitOptions | None = None,
    ) -> int:
        params = SamplingParams(max_tokens=100)
        return self.pool.submit(list(prompt_ids), params, client, options)

    async def kill(self, group: FakeGroup, suspects: Iterable[int] = ()) -> None:
        """The group's death as its end-of-file and then the supervisor tell it."""
        group.die()
        await turn()
        self.pool.detach(group.replica, group.epoch, suspects)


async def turn() -> None:
    """Let the loop read what has been written."""
    for _ in range(3):
        await asyncio.sleep(0)
