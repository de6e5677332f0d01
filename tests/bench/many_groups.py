"""What many groups and streams cost a gateway's worker: `python -m tests.bench.many_groups`.

The pools and the schedulers are the real ones; a channel is a list of messages that have been
through msgpack, and a forward pass takes no time. Streams come and go: whoever ends is followed by
another. Printed are CPU us of a pool for a request and for a token, those of a group's scheduler
for a token, and memory, by numbers of groups and of streams; workers share the streams.
"""

import argparse
import asyncio
import gc
import itertools
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from backend.scheduler.block_pool import BlockPool
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import Sequence
from backend.wire import messages
from backend.wire.messages import (
    Abort,
    Ready,
    Reply,
    Request,
    SeqOutput,
    StepOutput,
    StepTimings,
    Submit,
    Totals,
)
from backend.wire.sampling import SamplingParams
from gateway.pool.replicas import ReplicaPool
from gateway.pool.submit_options import SubmitOptions
from gateway.tenant import Tenant

PROMPT_TOKENS, OUTPUT_TOKENS = 32, 64
BLOCK_SIZE = 32
STEP_S = 0.02


class Link:
    """Both ends of a channel: see backend/wire/channel.py. The sender encodes, the reader
    decodes, as over a pipe."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.replies: list[bytes] = []
        self.on_news: Callable[[], None] = lambda: None

    def listen(self, loop: asyncio.AbstractEventLoop, on_news: Callable[[], None]) -> None:
        self.on_news = on_news

    def receive(self) -> list[Reply]:
        frames, self.replies = self.replies, []
        return [messages.decode_reply(frame) for frame in frames]

    def send(self, request: Request, *, urgent: bool = False) -> bool:
        self.requests.append(messages.encode(request))
        return True

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class Clock:
    """CPU seconds of the parts of a simulation."""

    submit_s: float = 0.0
    frames_s: float = 0.0
    schedulers_s: float = 0.0
    num_requests: int = 0
    num_tokens: int = 0
    num_frames: int = 0


class Group:
    """A lead without a model: the real scheduler, and tokens that are made up."""

    def __init__(self, number: int, num_workers: int, rows: int, clock: Clock) -> None:
        self.links = [Link() for _ in range(num_workers)]
        self._number, self._clock = number, clock
        self._totals = Totals()
        self.scheduler = Scheduler(
            BlockPool(rows * 8, BLOCK_SIZE),
            max_num_seqs=rows,
            max_num_batched_tokens=max(512, 2 * rows),
            max_model_len=8192,
            vocab_size=1 << 17,
        )

    def announce(self) -> None:
        room = 8192
        ready = Ready(
            self._number, 1, "none", "none", "none", room, room, room, 0, room, BLOCK_SIZE, [0], 0,
            self.scheduler.credit,
        )  # fmt: skip
        for link in self.links:
            link.replies.append(messages.encode(ready))
            link.on_news()

    def step(self) -> None:
        """Take requests, run a step, and send every worker its frame."""
        begun_s = time.thread_time()
        for worker, link in enumerate(self.links):
            records, link.requests = link.requests, []
            for request in map(messages.decode_request, records):
                self._apply(worker, request)
        plan = self.scheduler.schedule()
        parts: list[list[SeqOutput]] = [[] for _ in self.links]
        if plan is not None:
            for worker, output in self.scheduler.commit(plan, [7] * len(plan.sample_rows)):
                parts[worker].append(output)
        scheduler, before = self.scheduler, self._totals
        self._totals = Totals(
            before.num_steps + 1,
            scheduler.num_prompt_tokens,
            scheduler.num_output_tokens,
            forward_s=before.forward_s + STEP_S,
        )
        for link, part in zip(self.links, parts, strict=True):
            frame = StepOutput(
                before.num_steps + 1,
                part,
                StepTimings(),
                scheduler.credit,
                scheduler.num_running,
                scheduler.num_waiting,
                scheduler.pool.num_free,
                self._totals,
            )
            link.replies.append(messages.encode(frame))
        self._clock.schedulers_s += time.thread_time() - begun_s
        self._clock.num_tokens += sum(map(len, parts))
        begun_s = time.thread_time()
        for link in self.links:
            link.on_news()
        self._clock.frames_s += time.thread_time() - begun_s
        self._clock.num_frames += len(self.links)

    def _apply(self, worker: int, request: Request) -> None:
        match request:
            case Submit():
                ids = request.prompt_ids
                key = (worker, request.seq_id)
                seq = Sequence(key, ids, len(ids), request.params, str(request.seq_id))
                seq.tenant = request.tenant
                self.scheduler.add(seq)
            case Abort():
                self.scheduler.abort((worker, request.seq_id))


@dataclass(slots=True)
class Client:
    """Sends one request after another through a pool."""

    pool: ReplicaPool
    clock: Clock
    tenant: Tenant
    number: int
    ended: list["Client"]

    def begin(self, num_tokens: int = OUTPUT_TOKENS) -> None:
        prompt = list(range(self.number, self.number + PROMPT_TOKENS))
        params = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
        options = SubmitOptions(tenant=self.tenant)
        begun_s = time.thread_time()
        self.pool.check_room(self.tenant)
        self.pool.submit(prompt, params, self, options)
        self.clock.submit_s += time.thread_time() - begun_s
        self.clock.num_requests += 1

    def sent(self, seq_id: int) -> None:
        """Nothing waits for that here."""

    def receive(self, output: SeqOutput) -> None:
        if output.finish_reason is not None:
            self.ended.append(self)


@dataclass(slots=True)
class World:
    num_groups: int
    num_streams: int
    num_workers: int
    num_tenants: int
    clock: Clock = field(default_factory=Clock)
    ended: list[Client] = field(default_factory=list)

    def run(self, num_steps: int) -> None:
        """Print a line of the table."""
        rows = max(8, -(-self.num_streams // self.num_groups) * 5 // 4)
        least_kb = _memory_kb()
        groups = [
            Group(number, self.num_workers, rows, self.clock) for number in range(self.num_groups)
        ]
        groups_kb = _memory_kb() - least_kb
        pools = [ReplicaPool(8192, max_waiting=1_000_000) for _ in range(self.num_workers)]
        for worker, pool in enumerate(pools):
            for number, group in enumerate(groups):
                pool.attach(number, 1, group.links[worker])
        for group in groups:
            group.announce()
        tenants = [Tenant(id=f"key-{number}") for number in range(self.num_tenants)]
        clients = [
            Client(pools[number % len(pools)], self.clock, tenants[number % len(tenants)], number,
                   self.ended)
            for number in range(self.num_streams)
        ]  # fmt: skip
        lengths = itertools.cycle(range(1, OUTPUT_TOKENS + 1))
        for number, client in enumerate(clients):
            client.begin(next(lengths))  # so that they do not all end at once
            if number % (8 * self.num_groups) == 0:
                for group in groups:
                    group.step()
        for client in self._taken():
            client.begin()
        first_us = 1e6 * self.clock.submit_s / self.clock.num_requests
        for _ in range(2):  # prompts
            for group in groups:
                group.step()
        streams_kb = _memory_kb() - least_kb - groups_kb
        self.clock.submit_s = self.clock.frames_s = self.clock.schedulers_s = 0.0
        self.clock.num_requests = self.clock.num_tokens = self.clock.num_frames = 0
        for _ in range(num_steps):
            for group in groups:
                group.step()
                for client in self._taken():
                    client.begin()
        clock = self.clock
        tokens, frames = max(1, clock.num_tokens), max(1, clock.num_frames)
        queued = sum(pool.num_queued for pool in pools)
        print(
            f"| {self.num_groups} | {self.num_streams} | {self.num_workers} | {self.num_tenants} "
            f"| {first_us:.0f} | {1e6 * clock.submit_s / max(1, clock.num_requests):.0f} "
            f"| {1e6 * clock.frames_s / frames:.1f} | {1e6 * clock.frames_s / tokens:.2f} "
            f"| {1e6 * clock.schedulers_s / tokens:.2f} | {queued} | {groups_kb / 1024:.0f} "
            f"| {streams_kb / max(1, self.num_streams):.1f} |",
            flush=True,
        )

    def _taken(self) -> list[Client]:
        clients = self.ended[:]
        self.ended.clear()
        return clients


def _memory_kb() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="10:1000:1:1,100:10000:1:1,1000:100000:1:1")
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    print(
        "| groups | streams | workers | keys | first request, us | request, us | frame, us "
        "| token, us | scheduler, us a token | left waiting | groups, MB | KB a stream |"
    )
    print("|---" * 12 + "|")
    gc.disable()
    np.zeros(1)
    for case in args.cases.split(","):
        num_groups, num_streams, num_workers, num_tenants = map(int, case.split(":"))
        World(num_groups, num_streams, num_workers, num_tenants).run(args.steps)
        gc.collect()


if __name__ == "__main__":
    asyncio.run(main())
