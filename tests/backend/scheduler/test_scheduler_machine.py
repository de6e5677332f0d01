"""Any order of requests, and what the KV cache holds of them: property tests of the scheduler."""

import bisect
import itertools
from collections.abc import Sequence as ListLike

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backend.config.cache_groups import CacheGroup, blocks_of_sequence
from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import SeqKey, Sequence, SequenceStatus
from backend.scheduler.state_slots import StateSlots
from backend.step import StepPlan
from backend.wire.messages import TokenLogprobs
from backend.wire.sampling import SamplingParams
from tests.backend.scheduler.test_scheduler import EOS, make_scheduler, make_sequence, step

# Of the cache groups. Full ones alone are half of the models there are.
WINDOWS = [[0], [0], [0], [5], [1], [0, 3], [0, 6, 6], [0, 2, 7], [4, 9], [0, 0], []]

Content = tuple[int, str, tuple[int, ...]]
"""What a place holds: of which group, salt and tokens up to its own; other tokens, other keys."""
# In the place of a group: the place belongs to an encoder's input, of which tokens see all others.
ENCODER = -1


class SimulatedCache:
    """Places that hold what was written there, and checks of what a step reads."""

    def __init__(self, groups: ListLike[CacheGroup], block_size: int) -> None:
        self._groups = groups
        self._block_size = block_size
        self._content: dict[int, Content | None] = {}  # by slot; None: cleared
        self._states: dict[int, tuple[str, list[int]]] = {}  # by slot of states: salt, tokens
        # Tokens that were drawn and that the scheduler does not know yet.
        self.drawn: dict[Sequence, int] = {}

    def run(self, plan: StepPlan, sequences: ListLike[Sequence]) -> None:
        """Clear and write as ranks do, then check every place that attention may read.

        sequences: in the order of the plan.
        """
        size = self._block_size
        for block in plan.begun_blocks(size).tolist():
            self._content |= dict.fromkeys(range(block * size, (block + 1) * size))
        for s, seq in enumerate(sequences):
            for token in range(*plan.query_starts[s : s + 2].tolist()):
                for g, slots in enumerate(plan.slot_mapping):
                    content = self._of(g, seq, int(plan.positions[token]))
                    self._content[int(slots[token])] = content
        written = plan.slot_mapping.ravel().tolist() + plan.encoder_slots.tolist()
        num_slots = len(self._groups) * plan.num_tokens + len(plan.encoder_ids)
        assert len(set(written)) == num_slots, "a place written twice"
        self._encode(plan, sequences)
        for s, seq in enumerate(sequences):
            self._check_input(plan, s, seq)
            for g, group in enumerate(self._groups):
                self._check_visible(plan, s, seq, g, group)
                self._check_table(plan, s, seq, g)

    def tokens(self, seq: Sequence) -> list[int]:
        """Return a sequence's tokens, the newest as it was drawn."""
        if seq.token_ids[-1] < 0:
            return [*seq.token_ids[:-1], self.drawn[seq]]
        return seq.token_ids

    def _of(self, g: int, seq: Sequence, position: int) -> Content:
        return g, seq.cache_salt, tuple(self.tokens(seq)[: position + 1])

    def run_states(self, plan: StepPlan, sequences: ListLike[Sequence]) -> None:
        """Run the segments, and check that each goes on from the states of the tokens before it.

        sequences: in the order of the plan.
        """
        reads, writes = plan.state_reads.tolist(), plan.state_writes.tolist()
        assert len(set(writes)) == len(writes), "a slot written twice"
        starts, own = plan.state_starts.tolist(), plan.query_starts.tolist()
        assert set(own) <= set(starts)
        before = dict(self._states)
        for k, (read, write) in enumerate(zip(reads, writes, strict=True)):
            s = bisect.bisect_right(own, starts[k]) - 1
            is_first, seq = starts[k] == own[s], sequences[s]
            begin, end = (seq.num_computed_tokens + starts[n] - own[s] for n in (k, k + 1))
            assert begin < end
            if is_first:
                assert (read == -1) == (begin == 0)
                of_others = [
                    w for n, w in enumerate(writes) if not own[s] <= starts[n] < own[s + 1]
                ]
                assert read not in of_others, "another overwrites it in this step"
            else:
                assert read == writes[k - 1]
            if begin:
                states = before if is_first else self._states
                assert states[read] == (
                    seq.cache_salt,
                    self.tokens(seq)[:begin],
                ), "another's states"
            self._states[write] = (seq.cache_salt, self.tokens(seq)[:end])

    def most_blocks(self, num_tokens: int, scheduler: Scheduler) -> int:
        chunk = scheduler.max_num_batched_tokens
        return blocks_of_sequence(self._groups, num_tokens, self._block_size, chunk)

    def check_room(self, seq: Sequence, scheduler: Scheduler) -> None:
        """Assert that a sequence has no more blocks than it was said to have at most."""
        chunk = 1 if seq.is_decoding else scheduler.max_num_batched_tokens
        for group, table in zip(self._groups, seq.block_tables, strict=False):
            assert len(table) <= group.max_blocks(seq.num_tokens, self._block_size, chunk)

    def _encode(self, plan: StepPlan, sequences: ListLike[Sequence]) -> None:
        """Write what encoders give, which is a matter of the whole input."""
        slots, token_ids = iter(plan.encoder_slots.tolist()), iter(plan.encoder_ids.tolist())
        inputs = [seq.encoder_ids for seq in sequences if seq.num_unencoded_tokens]
        assert [len(each) for each in inputs] == plan.encoder_lens.tolist()
        for each in inputs:
            assert each == list(itertools.islice(token_ids, len(each)))
            for position, slot in enumerate(itertools.islice(slots, len(each))):
                self._content[slot] = (ENCODER, str(position), tuple(each))
        assert next(slots, None) is None

    def _check_input(self, plan: StepPlan, s: int, seq: Sequence) -> None:
        """Assert that all of what a sequence's encoder gave is there, and nothing of others."""
        if not seq.encoder_ids:
            assert not len(plan.cross_lens)
            return
        assert plan.cross_lens[s] == len(seq.encoder_ids)
        assert set(plan.cross_tables[s].tolist()) == set(seq.cross_table)
        assert not set(seq.cross_table) & {b for table in seq.block_tables for b in table}
        for index, block in enumerate(seq.cross_table):
            for offset in range(self._block_size):
                position = index * self._block_size + offset
                content = self._content[block * self._block_size + offset]
                if position < len(seq.encoder_ids):
                    assert content == (ENCODER, str(position), tuple(seq.encoder_ids))
                else:
                    assert content is None, "left by another"

    def _check_visible(
        self, plan: StepPlan, s: int, seq: Sequence, g: int, group: CacheGroup
    ) -> None:
        """Assert that each key that a token of this step sees is there, and is the right one."""
        start = seq.num_computed_tokens
        first = max(0, start + 1 - group.window) if group.window else 0
        for position in range(first, start + seq.num_scheduled):
            block = int(plan.block_tables[g, s, position // self._block_size])
            slot = block * self._block_size + position % self._block_size
            assert self._content.get(slot) == self._of(g, seq, position), "another's key"

    def _check_table(self, plan: StepPlan, s: int, seq: Sequence, g: int) -> None:
        """Assert that a row names living blocks of the sequence, with nothing of others in them."""
        table = seq.block_tables[g]
        assert set(plan.block_tables[g, s].tolist()) <= set(table)
        first = seq.num_blocks - len(table)
        for index, block in enumerate(table, first):
            for offset in range(self._block_size):
                position = index * self._block_size + offset
                content = self._content[block * self._block_size + offset]
                if content is not None:
                    assert content == self._of(g, seq, position), "left by another"
                else:
                    assert position >= seq.num_computed_tokens + seq.num_scheduled


class SchedulerMachine(RuleBasedStateMachine):
    """Any order of adding, aborting and stepping keeps the promises."""

    @initialize(
        num_blocks=st.integers(2, 12), block_size=st.integers(1, 5), seqs=st.integers(1, 6),
        extra=st.integers(1, 8), windows=st.sampled_from(WINDOWS), has_encoder=st.booleans(),
        spare_slots=st.integers(-1, 5), interval=st.integers(1, 3),
    )  # fmt: skip
    def start(
        self,
        num_blocks: int,
        block_size: int,
        seqs: int,
        extra: int,
        windows: list[int],
        has_encoder: bool,
        spare_slots: int,
        interval: int,
    ) -> None:
        """spare_slots: of states, beside one for each sequence; -1: no layer keeps states."""
        states = None
        if spare_slots >= 0:
            states = StateSlots(seqs + spare_slots, seqs, block_size, interval * block_size)
        self.has_encoder = has_encoder and bool(windows) and states is None
        groups = [CacheGroup((layer,), window) for layer, window in enumerate(windows)]
        self.scheduler = make_scheduler(
            num_blocks * max(1, len(groups)), block_size, seqs, seqs + extra, 40, groups, states
        )
        self.cache = SimulatedCache(groups, block_size)
        self.numbers = itertools.count()
        self.added: dict[SeqKey, Sequence] = {}
        self.received: dict[SeqKey, list[int]] = {}
        self.scored: dict[SeqKey, list[int]] = {}
        self.next_token = itertools.count(10)

    @rule(
        prompt=st.lists(st.integers(1, 2), min_size=1, max_size=20),
        max_tokens=st.integers(1, 15),
        salt=st.sampled_from(["", "a"]),
        priority=st.integers(-1, 1),
        tenant=st.sampled_from(["", "many", "many", "few"]),
        score=st.booleans(),
        num_encoded=st.integers(1, 14),
    )
    def add(
        self,
        prompt: list[int],
        max_tokens: int,
        salt: str,
        priority: int,
        tenant: str,
        score: bool,
        num_encoded: int,
    ) -> None:
        seq = make_sequence(next(self.numbers), prompt, max_tokens, salt)
        seq.priority, seq.tenant = priority, tenant
        if self.has_encoder:
            seq.encoder_ids = [seq.key[1] + n for n in range(num_encoded)]
        elif score:
            params = SamplingParams(max_tokens=max_tokens - 1, prompt_logprobs=0)
            seq.params = params
        try:
            self.scheduler.add(seq)
        except ValueError:
            # To score without generating, the last prompt token is in the cache as well.
            needed = len(prompt) + max(seq.params.max_tokens - 1, 0)
            num_blocks = self.cache.most_blocks(needed, self.scheduler)
            num_blocks += -(-len(seq.encoder_ids) // self.scheduler.pool.block_size)
            assert num_blocks > self.scheduler.pool.num_blocks
        else:
            self.added[seq.key] = seq
            self.received[seq.key] = []
            self.scored[seq.key] = []

    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        if not self.added:
            return
        key = data.draw(st.sampled_from(sorted(self.added)))
        was_alive = key in self.scheduler
        assert self.scheduler.abort(key) == was_alive
        assert not self.scheduler.abort(key)

    @precondition(lambda self: self.scheduler.has_work)
    @rule(steps=st.integers(1, 5), eos=st.booleans(), most=st.integers(1, 4))
    def step(self, steps: int, eos: bool, most: int) -> None:
        for _ in range(steps):
            if not self.scheduler.has_work:
                return
            alive = [s for s in self.added.values() if s.status is not SequenceStatus.FINISHED]
            # A newcomer of a better priority waits for room; it does not throw out who runs.
            running = [s for s in alive if s.status is SequenceStatus.RUNNING]
            first = min(running or alive, key=lambda s: s.order)
            before = first.num_computed_tokens, first.num_tokens
            plan = self.scheduler.schedule()
            assert plan is not None
            assert plan.num_tokens <= self.scheduler.max_num_batched_tokens
            if len(plan.encoder_lens) > 1:
                num_tokens = plan.num_tokens + len(plan.encoder_ids)
                assert num_tokens <= self.scheduler.max_num_batched_tokens
            decodes, prefills = self.scheduler._selection
            self.cache.run(plan, decodes + prefills)
            if self.scheduler.states:
                self.cache.run_states(plan, decodes + prefills)
            for seq in self.added.values():
                self.cache.check_room(seq, self.scheduler)
            # As if drafts had been accepted: several tokens for a sequence in one step.
            counts = [1 + next(self.next_token) % most for _ in plan.sample_rows]
            tokens = [EOS if eos and i == 0 else next(self.next_token) for i in range(sum(counts))]
            # Each score carries its token, so that it can be told where it belongs.
            scores = [TokenLogprobs(token, 0, []) for token in plan.logprob_targets.tolist()]
            outputs = self.scheduler.commit(
                plan, tokens, (), scores, num_tokens=counts if most > 1 else None
            )
            for worker, output in outputs:
                key = worker, output.seq_id
                assert not (output.prompt_logprobs and self.received[key]), "scores come first"
                self.received[key] += output.token_ids
                self.scored[key] += [int(score.logprob) for score in output.prompt_logprobs]
                if output.finish_reason and self.added[key].params.prompt_logprobs is not None:
                    prompt = self.added[key].token_ids[: self.added[key].num_prompt_tokens]
                    assert self.scored[key] == prompt[1:], "each prompt token is scored once"
            after = first.num_computed_tokens, first.num_tokens
            finished = first.status is SequenceStatus.FINISHED
            if len({seq.tenant for seq in alive}) == 1:
                assert finished or after > before, "the first in order must move in every step"

    @invariant()
    def books_balance(self) -> None:
        self.scheduler.check()

    @invariant()
    def nothing_is_lost(self) -> None:
        for key, seq in self.added.items():
            assert seq.token_ids[seq.num_prompt_tokens :] == self.received[key]

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for _ in range(2_000):
            if not self.scheduler.has_work:
                break
            step(self.scheduler)
        assert not self.scheduler.has_work
        assert self.scheduler.pool.num_free == self.scheduler.pool.num_blocks
        if states := self.scheduler.states:
            assert states.pool.num_free == states.pool.num_blocks


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(stateful_step_count=30)
