"""The pool against any order of submits, aborts, steps, deaths, births and names.

Groups number the tokens of a sequence from 0 as an engine would draw them by output position, so a
lost token leaves a gap and a token given twice a repetition.
"""

import asyncio
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from backend.wire.messages import Abort, FinishReason, SeqOutput, Submit
from backend.wire.sampling import SamplingParams
from gateway.pool.refusals import Poisonous, PoolNotReady
from gateway.pool.replicas import ReplicaPool
from gateway.pool.submit_options import SubmitOptions
from tests.gateway.fake_group import FakeGroup

NUM_GROUPS = 2
GROUP_NAMES = ("primary", "batch", "chat")


@dataclass(eq=False)
class Client:
    """The receiver of one sequence."""

    prompt: list[int]
    max_tokens: int
    seq_id: int = 0
    tokens: list[int] = field(default_factory=list)
    end: FinishReason | None = None

    def sent(self, seq_id: int) -> None:
        assert self.end is None

    def receive(self, output: SeqOutput) -> None:
        assert self.end is None, "nothing follows the end"
        self.tokens += output.token_ids
        self.end = output.finish_reason


@dataclass(eq=False)
class Group:
    """A life: the sequences it was given, seq_id -> [tokens so far, how many there will be]."""

    fake: FakeGroup
    num_read: int = 0
    running: dict[int, list[int]] = field(default_factory=dict)

    def step(self) -> None:
        """Take what has arrived and give every sequence its next token."""
        assert self.fake.submits is not None  # reads the ring
        for request in self.fake.requests[self.num_read :]:
            if isinstance(request, Abort):
                self.running.pop(request.seq_id, None)
            elif isinstance(request, Submit):
                assert request.output_ids == list(range(len(request.output_ids)))
                assert request.seq_id not in self.running, "given twice"
                self.running[request.seq_id] = [len(request.output_ids), request.params.max_tokens]
        self.num_read = len(self.fake.requests)
        outputs = []
        for seq_id, progress in list(self.running.items()):
            token, total = progress
            is_last = token + 1 >= total
            outputs.append(SeqOutput(seq_id, [token], FinishReason.LENGTH if is_last else None))
            progress[0] += 1
            if is_last:
                del self.running[seq_id]
        self.fake.send(*outputs, credit=20)


class PoolMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.pool = ReplicaPool(1000, resume_seconds=1000)
        self.groups: dict[int, Group] = {}
        self.clients: list[Client] = []
        self.num_epochs = 0
        for replica in range(NUM_GROUPS):
            self.bear(replica)

    def settle(self) -> None:
        """Let the loop read what has been written."""

        async def turn() -> None:
            for _ in range(3):
                await asyncio.sleep(0)

        self.runner.run(turn())

    @rule(replica=st.integers(0, NUM_GROUPS - 1))
    def bear(self, replica: int) -> None:
        if replica in self.groups:
            return
        self.num_epochs += 1

        async def attach() -> FakeGroup:
            return FakeGroup(self.pool, replica, self.num_epochs)

        self.groups[replica] = Group(self.runner.run(attach()))
        self.groups[replica].fake.ready(20)
        self.settle()

    @rule(names=st.dictionaries(st.integers(0, NUM_GROUPS - 1), st.sampled_from(GROUP_NAMES)))
    def name(self, names: dict[int, str]) -> None:
        async def name_groups() -> None:
            self.pool.name_groups(names)

        self.runner.run(name_groups())

    @rule(
        size=st.integers(1, 12),
        max_tokens=st.integers(1, 5),
        group=st.sampled_from(["", *GROUP_NAMES]),
    )
    def submit(self, size: int, max_tokens: int, group: str) -> None:
        client = Client([len(self.clients)] * size, max_tokens)

        async def submit() -> None:
            params = SamplingParams(max_tokens=max_tokens)
            options = SubmitOptions(group=group)
            client.seq_id = self.pool.submit(client.prompt, params, client, options)

        try:
            self.runner.run(submit())
        except (PoolNotReady, Poisonous):
            return
        self.clients.append(client)

    @rule(which=st.integers(0, 1000))
    def abort(self, which: int) -> None:
        if not self.clients:
            return
        client = self.clients.pop(which % len(self.clients))

        async def abort() -> None:
            self.pool.abort(client.seq_id)

        self.runner.run(abort())

    @rule(replica=st.integers(0, NUM_GROUPS - 1), is_read=st.booleans())
    def step(self, replica: int, is_read: bool = True) -> None:
        if replica in self.groups:
            self.groups[replica].step()
        if is_read:
            self.settle()

    @rule(
        replica=st.integers(0, NUM_GROUPS - 1),
        suspects=st.sets(st.integers(1, 30)),
        reads_first=st.booleans(),
    )
    def kill(self, replica: int, suspects: set[int], reads_first: bool) -> None:
        group = self.groups.pop(replica, None)
        if group is None:
            return
        group.fake.die()
        if reads_first:
            self.settle()

        async def detach() -> None:
            self.pool.detach(replica, group.fake.epoch, suspects)

        self.runner.run(detach())

    @invariant()
    def no_token_is_lost_or_given_twice(self) -> None:
        for client in getattr(self, "clients", []):
            assert client.tokens == list(range(len(client.tokens)))
            if client.end is FinishReason.LENGTH:
                assert len(client.tokens) == client.max_tokens

    def teardown(self) -> None:
        """Without further deaths every sequence comes to an end."""
        for replica in range(NUM_GROUPS):
            self.bear(replica)
        for _ in range(1000):
            if all(client.end for client in self.clients):
                break
            for replica in range(NUM_GROUPS):
                self.step(replica)
        assert all(client.end for client in self.clients)
        self.no_token_is_lost_or_given_twice()

        async def drain() -> None:
            await asyncio.wait_for(self.pool.drain(), 60)
            for group in self.groups.values():
                group.fake.die()
            for group in self.groups.values():
                self.pool.detach(group.fake.replica, group.fake.epoch)

        self.runner.run(drain())
        self.runner.close()


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(stateful_step_count=40)
