"""Decides what runs in the next step. Owns the sequences and their blocks.

Knows counts of tokens, never text, tensors, processes or the time. Called only by the lead rank:
add and abort between steps, then schedule, then commit with the tokens that were sampled.

There is no prefill and no decode phase: a step gives tokens to sequences until num_computed_tokens
catches up with num_tokens. Sequences one token behind go first, so that a long prompt, cut into
chunks, never stops those that are streaming. When blocks run out the newest is preempted: its
blocks are freed and it is computed again later, mostly from the prefix cache.
"""

import bisect
import math
from collections.abc import Sequence as ListLike

from backend.block_pool import BlockPool
from backend.fair_share import FairShare, Turn
from backend.outcome import Endings, error_output, token_output
from backend.planning import lay_out
from backend.prefix_cache import PrefixCache
from backend.sequence import SeqKey, Sequence, SequenceStatus
from backend.step import FAULTY, Join, StepPlan
from backend.wire.messages import FinishReason, SeqOutput, TokenScore

_RUNNING = SequenceStatus.RUNNING
# Where more of them would be needed to compute sequences again, the steps are larger: a group that
# takes over all of another's work, or one long context, would be at it for minutes.
SMALL_STEPS = 48


class Scheduler:
    """Continuous batching over a pool of KV blocks.

    max_num_batched_tokens must exceed max_num_seqs: then one-token sequences never use up a step's
    budget and every step also moves the oldest prompt.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_model_len: int,
        eos_token_ids: ListLike[int] = (),
        prefix_caching: bool = True,
    ) -> None:
        if max_num_batched_tokens <= max_num_seqs:
            raise ValueError("max_num_batched_tokens must be greater than max_num_seqs")
        self.pool = pool
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_model_len = max_model_len
        self._endings = Endings(eos_token_ids, max_model_len)
        self._prefixes = PrefixCache(pool, enabled=prefix_caching)
        self._shares = FairShare()
        self._sequences: dict[SeqKey, Sequence] = {}
        self._waiting: list[Sequence] = []  # by order
        self._running: list[Sequence] = []  # by order
        self._free_rows = list(reversed(range(max_num_seqs)))
        self._joins: list[Join] = []
        self._chunks: dict[Sequence, int] = {}  # of the step between schedule and commit
        self._in_plan_order: list[tuple[Sequence, int]] = []  # the same, as its plan has them
        self._budget = 0  # tokens the step at hand can still take
        self._num_arrived = 0
        self._step = 0
        # Totals, for whoever watches. Prompts include what is computed again after a preemption.
        self.num_preemptions = 0
        self.num_prompt_tokens = 0
        self.num_output_tokens = 0
        self.num_prefix_queries = 0
        self.num_prefix_hits = 0

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences of the step at hand that get a token, in the order of its samples."""
        return [seq for seq, count in self._in_plan_order if seq.samples(count)]

    def newcomers(self) -> list[SeqKey]:
        """The sequences of the step at hand that are new or changed in it: from the step in which
        they join to the first that runs them by a single token."""
        return [seq.key for seq in self._chunks if not seq.is_settled]

    def __contains__(self, key: SeqKey) -> bool:
        """Whether a sequence is waiting or running."""
        return key in self._sequences

    @property
    def credit(self) -> int:
        """Tokens of new work worth having: what two steps could start on beyond what waits."""
        if len(self._sequences) >= self.max_num_seqs:
            return 0
        backlog = sum(seq.num_uncomputed_tokens for seq in self._sequences.values())
        free = self.pool.num_free * self.pool.block_size
        return max(0, min(2 * self.max_num_batched_tokens - backlog, free))

    def add(self, seq: Sequence) -> None:
        """Queue a sequence. Raises ValueError, and keeps nothing of it, if it can never finish."""
        if seq.key in self._sequences:
            raise ValueError(f"sequence {seq.key} exists already")
        if seq.num_tokens == 0:
            raise ValueError("a prompt needs at least one token")
        only_scores = seq.params.max_tokens == 0 and seq.params.prompt_logprobs is not None
        if seq.num_output_tokens >= seq.params.max_tokens and not only_scores:
            raise ValueError("max_tokens leaves nothing to generate")
        longest = min(seq.num_prompt_tokens + seq.params.max_tokens, self.max_model_len)
        if seq.num_tokens >= self.max_model_len + only_scores or self._blocks_for(
            longest - 1 + only_scores
        ) > (self.pool.num_blocks):
            capacity = self.pool.num_blocks * self.pool.block_size
            raise ValueError(
                f"{seq.num_tokens} tokens and {seq.params.max_tokens} more do not fit: "
                f"the model takes {self.max_model_len}, the KV cache holds {capacity}"
            )
        seq.order = (seq.priority, self._num_arrived)
        self._num_arrived += 1
        self._sequences[seq.key] = seq
        self._shares.enter(seq)
        bisect.insort(self._waiting, seq, key=_by_order)

    def abort(self, key: SeqKey) -> bool:
        """Forget a sequence and free its blocks; False if it is unknown or has finished."""
        seq = self._sequences.get(key)
        if seq is None:
            return False
        self._finish(seq)
        return True

    def abort_worker(self, worker: int) -> int:
        """Abort all sequences of a worker; how many there were."""
        return sum(self.abort(key) for key in list(self._sequences) if key[0] == worker)

    def schedule(
        self, prompt_tokens: int | None = None, rebuilt_tokens: int | None = None
    ) -> StepPlan | None:
        """Plan the next step; None when there is nothing to run. Each plan must be committed.

        prompt_tokens: of prompts, at most, where streams wait for the step; None for no bound.
        rebuilt_tokens: the same while a sequence that has had tokens is computed again.
        """
        assert not self._chunks, "the last plan was not committed"
        bounds = (prompt_tokens, rebuilt_tokens)
        self._fill(bounds, self._shares.turn(self._sequences.values()))
        if not self._chunks:
            self._fill(bounds, Turn())
        if not self._chunks:
            return None
        self._step += 1
        return self._plan()

    def commit(
        self,
        plan: StepPlan,
        token_ids: ListLike[int],
        scores: ListLike[TokenScore | None] = (),
        prompt_scores: ListLike[TokenScore] = (),
    ) -> list[tuple[int, SeqOutput]]:
        """Record what a step gave; finish what has ended.

        token_ids, scores: one for each of plan.sample_rows, in order; NO_TOKEN and FAULTY end a
        sequence in error. scores: empty if nobody asked. prompt_scores: one for each of
        plan.score_tokens. Returns (worker, output) for every sequence that has news.
        """
        assert plan.step == self._step, "a plan is committed once, in order"
        sampled = iter(zip(token_ids, scores or [None] * len(token_ids), strict=True))
        unread = iter(prompt_scores)
        outputs = []
        in_order, self._in_plan_order, self._chunks = self._in_plan_order, [], {}
        for seq, count in in_order:
            samples = seq.samples(count)
            token_id, score = next(sampled) if samples else (None, None)
            seq.is_settled = seq.is_settled or (samples and count == 1)
            scored = [next(unread) for _ in seq.scores_due(count)]
            seq.num_scored_tokens += len(scored)
            if any(math.isnan(each.logprob) for each in scored):
                token_id = FAULTY
            before = seq.num_computed_tokens
            seq.num_computed_tokens = before + count
            if before < seq.num_prompt_tokens:
                self.num_prompt_tokens += min(count, seq.num_prompt_tokens - before)
            self._prefixes.remember(seq, before)
            if (output := self._record(seq, token_id, score, scored)) is not None:
                outputs.append((seq.key[0], output))
        return outputs

    def check(self) -> None:
        """Assert the invariants; for tests."""
        self.pool.check(seq.block_table for seq in self._running)
        assert len(self._waiting) + len(self._running) == len(self._sequences)
        assert sorted(self._free_rows + [s.row for s in self._running]) == list(
            range(self.max_num_seqs)
        )
        assert all(not s.block_table and s.row == -1 for s in self._waiting)
        for queue in (self._waiting, self._running):
            assert [s.order for s in queue] == sorted(s.order for s in queue)

    # planning

    def _fill(self, bounds: tuple[int | None, int | None], turn: Turn) -> None:
        """Give the step's tokens to sequences of all tenants but those that sit it out.

        First to those one token behind, then to the prompts, each by arrival. bounds: of prompts,
        and while a sequence is computed again.
        """
        streams: list[Sequence] = []
        prompts: list[Sequence] = []
        for seq in self._running:
            if len(seq.token_ids) - seq.num_computed_tokens > 1:
                if seq.tenant not in turn.prompts:
                    prompts.append(seq)
            elif seq.tenant not in turn.streams:
                streams.append(seq)
        self._budget = self.max_num_batched_tokens
        if streams and (bound := self._bound(bounds, prompts + self._waiting)) is not None:
            self._budget = min(self._budget, len(streams) + bound)
        for seq in streams + prompts:
            if self._budget > 0 and seq.status is _RUNNING:
                self._extend(seq)
        while self._budget > 0 and (head := self._shares.first(self._waiting, turn.prompts)):
            if not self._start(head):
                break

    @staticmethod
    def _bound(bounds: tuple[int | None, int | None], behind: ListLike[Sequence]) -> int | None:
        """Return how many tokens of those behind run beside streams; None for any number."""
        usual, small = bounds
        rebuilt = sum(seq.num_uncomputed_tokens for seq in behind if seq.num_output_tokens)
        if usual is None or small is None or not rebuilt:
            return usual
        return min(usual, max(small, rebuilt // SMALL_STEPS))

    def _start(self, seq: Sequence) -> bool:
        """Admit a sequence, at the cost of tenants that hold much more if need be."""
        while not self._admit(seq):
            last = self._shares.outweighing(seq, self._running)
            if last is None:
                return False
            self._preempt(last)
        return True

    def _extend(self, seq: Sequence) -> None:
        """Give a running sequence its tokens, preempting newer ones for blocks if need be."""
        count = min(seq.num_uncomputed_tokens, self._budget)
        missing = self._blocks_for(seq.num_computed_tokens + count) - len(seq.block_table)
        if missing <= 0:  # what almost every sequence of almost every step is
            self._take(seq, count)
            return
        while (blocks := self.pool.allocate(missing)) is None:
            last = self._shares.last(self._running)
            self._preempt(last)
            if last is seq:
                return
        seq.block_table += blocks
        self._take(seq, count)

    def _admit(self, seq: Sequence) -> bool:
        """Start a waiting sequence if a row and blocks for its whole prompt are free."""
        if not self._free_rows:
            return False
        shared = self._prefixes.match(seq)
        needed = self._blocks_for(seq.num_tokens) - len(shared)
        if needed > self.pool.num_free - self._num_promised_blocks():
            self.pool.free(shared)
            return False
        num_cached = len(shared) * self.pool.block_size
        count = min(seq.num_tokens - num_cached, self._budget)
        blocks = self.pool.allocate(self._blocks_for(num_cached + count) - len(shared))
        assert blocks is not None, "the whole prompt was counted above"
        self._waiting.remove(seq)
        bisect.insort(self._running, seq, key=_by_order)
        seq.status = SequenceStatus.RUNNING
        seq.row = self._free_rows.pop()
        self._shares.count_row(seq, 1)
        seq.block_table = shared + blocks
        seq.num_computed_tokens = num_cached
        if self._prefixes.serves(seq):
            self.num_prefix_queries += seq.num_tokens
            self.num_prefix_hits += num_cached
        if seq.num_output_tokens == 0:
            seq.num_cached_tokens = num_cached
        history = seq.token_ids.copy() if seq.params.looks_back else []
        self._joins.append(Join(seq.row, seq.params, history, seq.num_prompt_tokens))
        self._take(seq, count)
        return True

    def _num_promised_blocks(self) -> int:
        """Blocks the running need for their prompts, and one each to grow, or a newcomer would
        soon be preempted again."""
        return sum(
            max(1, self._blocks_for(seq.num_tokens) - len(seq.block_table)) for seq in self._running
        )

    def _take(self, seq: Sequence, count: int) -> None:
        self._chunks[seq] = count
        self._budget -= count

    def _preempt(self, seq: Sequence) -> None:
        """Send a running sequence back to wait; its tokens are kept, its blocks are not."""
        self._release(seq)
        self._running.remove(seq)
        bisect.insort(self._waiting, seq, key=_by_order)
        seq.status = SequenceStatus.WAITING
        self.num_preemptions += 1

    def _release(self, seq: Sequence) -> None:
        """Give back a running sequence's blocks and row, and its share of the step at hand."""
        self._budget += self._chunks.pop(seq, 0)
        self.pool.free(seq.block_table)
        self._joins = [join for join in self._joins if join.row != seq.row]
        self._free_rows.append(seq.row)
        self._shares.count_row(seq, -1)
        seq.block_table = []
        seq.row = -1
        seq.is_settled = False
        seq.num_computed_tokens = 0

    def _plan(self) -> StepPlan:
        # One-token chunks first, each kind by arrival.
        self._in_plan_order = sorted(self._chunks.items(), key=_decodes_first)
        joins, self._joins = self._joins, []
        return lay_out(self._step, self._in_plan_order, joins, self.pool.block_size)

    # recording

    def _record(
        self,
        seq: Sequence,
        token_id: int | None,
        score: TokenScore | None,
        prompt_scores: list[TokenScore],
    ) -> SeqOutput | None:
        """Note one sequence's share of a step; None if it has no news."""
        if token_id is None:
            is_over = seq.num_uncomputed_tokens == 0  # a prompt that was only to be scored
            if is_over:
                self._finish(seq)
            reason = FinishReason.LENGTH if is_over else None
            if not is_over and not prompt_scores:
                return None
            return SeqOutput(seq.key[1], [], reason, prompt_scores=prompt_scores)
        if token_id < 0:
            if token_id == FAULTY:
                self.pool.forget(seq.block_table)  # what is in them may be the fault
            self._finish(seq)
            return error_output(seq, token_id)
        seq.token_ids.append(token_id)
        self.num_output_tokens += 1
        reason = self._endings.reason(seq, token_id)
        if reason is not None:
            self._finish(seq)
        return token_output(seq, token_id, reason, score, prompt_scores)

    def _finish(self, seq: Sequence) -> None:
        del self._sequences[seq.key]
        if seq.status is SequenceStatus.RUNNING:
            self._release(seq)
            self._running.remove(seq)
        else:
            self._waiting.remove(seq)
        self._shares.leave(seq)
        seq.status = SequenceStatus.FINISHED

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.pool.block_size)


def _by_order(seq: Sequence) -> tuple[int, int]:
    return seq.order


def _decodes_first(chunk: tuple[Sequence, int]) -> bool:
    """Sort key that keeps arrival order within one-token chunks and within the others."""
    return chunk[1] != 1
