"""Plans the next step and records what it gave. Owns the sequences.

Who runs is decided in batch_policy.py, rows and blocks are kept in block_tables.py; step_builder.py
writes the plan. Knows counts of tokens, never text, tensors, processes or the time. Called only by
the lead rank: add and abort between steps, then schedule, then commit with the tokens that were
sampled.

There is no prefill and no decode phase: a step gives tokens to sequences until num_computed_tokens
catches up with num_tokens. Sequences one token behind go first, so that a long prompt, cut into
chunks, never stops those that are streaming. When blocks run out the newest is preempted: its
blocks are freed and it is computed again later, mostly from the prefix cache.
"""

import itertools
import math
from collections.abc import Iterator
from collections.abc import Sequence as ListLike

from backend.scheduler.batch_policy import BatchPolicy
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.block_tables import Rows
from backend.scheduler.outputs import end_reason, error_output, token_output
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import SeqKey, Sequence
from backend.scheduler.step_builder import plan_step
from backend.step import FAULTY, NO_TOKEN, StepPlan
from backend.wire.messages import FinishReason, SeqOutput, TokenLogprobs


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
        self._eos_token_ids = frozenset(eos_token_ids)
        self._prefixes = PrefixCache(pool, enabled=prefix_caching)
        self._rows = Rows(pool, self._prefixes, max_num_seqs)
        self._roster = BatchPolicy(self._rows, max_num_batched_tokens)
        self._sequences: dict[SeqKey, Sequence] = {}
        # Of the step between schedule and commit: how many tokens of each, and who is sampled.
        self._chunks: dict[Sequence, int] = {}
        self._sampled: list[Sequence] = []
        self._num_arrived = 0
        self._step = 0
        # Totals, for whoever watches. Prompts include what is computed again after a preemption.
        self.num_prompt_tokens = 0
        self.num_output_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    @property
    def num_running(self) -> int:
        return len(self._roster.running)

    @property
    def num_waiting(self) -> int:
        return len(self._roster.waiting)

    @property
    def num_preemptions(self) -> int:
        return self._roster.num_preemptions

    @property
    def num_prefix_queries(self) -> int:
        return self._rows.num_prefix_queries

    @property
    def num_prefix_hits(self) -> int:
        return self._rows.num_prefix_hits

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences of the step at hand that get a token, in the order of its samples."""
        return self._sampled

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
        if seq.num_tokens >= self.max_model_len + only_scores or not self._rows.can_hold(
            longest - 1 + only_scores
        ):
            capacity = self.pool.num_blocks * self.pool.block_size
            raise ValueError(
                f"{seq.num_tokens} tokens and {seq.params.max_tokens} more do not fit: "
                f"the model takes {self.max_model_len}, the KV cache holds {capacity}"
            )
        seq.end_token_ids = frozenset((NO_TOKEN, FAULTY, *seq.params.stop_token_ids))
        if not seq.params.ignore_eos:
            seq.end_token_ids |= self._eos_token_ids
        seq.max_num_tokens = longest
        seq.order = (seq.priority, self._num_arrived)
        self._num_arrived += 1
        self._sequences[seq.key] = seq
        self._roster.enter(seq)

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
        self, prompt_tokens: int | None = None, recompute_tokens: int | None = None
    ) -> StepPlan | None:
        """Plan the next step; None when there is nothing to run. Each plan must be committed.

        prompt_tokens: of prompts, at most, where streams wait for the step; None for no bound.
        recompute_tokens: the same while a sequence that has had tokens is computed again.
        """
        assert not self._chunks, "the last plan was not committed"
        self._chunks = self._roster.fill((prompt_tokens, recompute_tokens))
        if not self._chunks:
            return None
        self._step += 1
        joins = self._rows.take_joins()
        plan, self._sampled = plan_step(self._step, self._chunks, joins, self._rows)
        return plan

    def commit(
        self,
        plan: StepPlan,
        token_ids: ListLike[int],
        scores: ListLike[TokenLogprobs | None] = (),
        prompt_scores: ListLike[TokenLogprobs] = (),
    ) -> list[tuple[int, SeqOutput]]:
        """Record what a step gave; finish what has ended.

        token_ids, scores: one for each of plan.sample_rows, in order; NO_TOKEN and FAULTY end a
        sequence in error. scores: empty if nobody asked. prompt_scores: one for each of
        plan.score_tokens. Returns (worker, output) for every sequence that has news.
        """
        assert plan.step == self._step, "a plan is committed once, in order"
        sampled = zip(token_ids, scores or itertools.repeat(None, len(token_ids)), strict=True)
        unread = iter(prompt_scores)
        outputs: list[tuple[int, SeqOutput]] = []
        chunks, self._chunks = self._chunks, {}
        block_size, num_plain = self.pool.block_size, 0
        for seq, count in chunks.items():
            worker, seq_id = seq.key
            output: SeqOutput | None
            if not seq.is_settled:
                output = self._record(seq, count, sampled, unread)
            else:  # one token run, one sampled, nothing scored: almost all, so kept short
                token_id, score = next(sampled)
                seq.num_computed_tokens = num_computed = seq.num_computed_tokens + 1
                if num_computed % block_size == 0:
                    self._prefixes.remember(seq, num_computed - 1)
                is_last = token_id in seq.end_token_ids or num_computed + 1 >= seq.max_num_tokens
                if is_last or score is not None:
                    output = self._record_token(seq, token_id, score, [])
                else:
                    seq.token_ids.append(token_id)
                    num_plain += 1
                    output = SeqOutput(seq_id, [token_id])
            if output is not None:
                outputs.append((worker, output))
        self.num_output_tokens += num_plain
        return outputs

    def check(self) -> None:
        """Assert the invariants; for tests."""
        self._roster.check()
        assert self.num_waiting + self.num_running == len(self._sequences)

    def _record(
        self,
        seq: Sequence,
        count: int,
        sampled: Iterator[tuple[int, TokenLogprobs | None]],
        unread: Iterator[TokenLogprobs],
    ) -> SeqOutput | None:
        """Record the step of a sequence that is not settled; None if it has no news."""
        samples = seq.samples(count)
        token_id, score = next(sampled) if samples else (None, None)
        scored = [next(unread) for _ in seq.scores_due(count)]
        seq.num_scored_tokens += len(scored)
        if any(math.isnan(each.logprob) for each in scored):
            token_id = FAULTY
        before = seq.num_computed_tokens
        seq.num_computed_tokens = before + count
        self.num_prompt_tokens += max(0, min(count, seq.num_prompt_tokens - before))
        self._prefixes.remember(seq, before)
        seq.is_settled = samples and count == 1
        if token_id is not None:
            return self._record_token(seq, token_id, score, scored)
        if seq.num_uncomputed_tokens:
            return SeqOutput(seq.key[1], [], prompt_scores=scored) if scored else None
        self._finish(seq)  # a prompt that was only to be scored
        return SeqOutput(seq.key[1], [], FinishReason.LENGTH, prompt_scores=scored)

    def _record_token(
        self, seq: Sequence, token_id: int, score: TokenLogprobs | None, scored: list[TokenLogprobs]
    ) -> SeqOutput:
        """Note a sequence's next token, or what was found in the place of one."""
        if token_id < 0:
            if token_id == FAULTY:
                self.pool.forget(seq.block_table)  # what is in them may be the fault
            self._finish(seq)
            return error_output(seq, token_id)
        seq.token_ids.append(token_id)
        self.num_output_tokens += 1
        reason = end_reason(seq, token_id)
        output = token_output(seq, token_id, reason, score, scored)
        if reason is not None:
            self._finish(seq)
        return output

    def _finish(self, seq: Sequence) -> None:
        del self._sequences[seq.key]
        self._roster.leave(seq)
