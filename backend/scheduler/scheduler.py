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
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as ListLike
from typing import NamedTuple

from backend.config.cache_groups import FULL_GROUPS, CacheGroup
from backend.scheduler.batch_policy import BatchPolicy, Selection
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.block_tables import BlockTables
from backend.scheduler.outputs import end_reason, error_output, token_output
from backend.scheduler.prefill_budget import PrefillLimit
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import SeqKey, Sequence, SequenceStatus
from backend.scheduler.state_slots import StateSlots
from backend.scheduler.step_ahead import StepAhead, advance_sequence, shares_of
from backend.scheduler.step_builder import build_step
from backend.step import FAULTY, NO_TOKEN, StateColumns, StepPlan
from backend.wire.messages import FinishReason, SeqOutput, TokenLogprobs

_NOBODY = Selection([], [])


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
        vocab_size: int,
        eos_token_ids: ListLike[int] = (),
        prefix_caching: bool = True,
        groups: ListLike[CacheGroup] = FULL_GROUPS,
        runs_whole: bool = False,
        states: StateSlots | None = None,
        num_stages: int = 1,
    ) -> None:
        """vocab_size: rows of the embedding; a sequence with another id is refused.

        groups: of the model's layers, by what they see; each has its own block table. runs_whole:
        all tokens of a sequence are run in one step, from the first one on. states: slots of layers
        that keep states, as many as max_num_seqs at least. num_stages: so many steps may be taken
        for run at a time, each of other sequences: see BatchPolicy.
        """
        if max_num_batched_tokens <= max_num_seqs:
            raise ValueError("max_num_batched_tokens must be greater than max_num_seqs")
        self.pool = pool
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_model_len = max_model_len
        self._vocab_size = vocab_size
        self._eos_token_ids = frozenset(eos_token_ids)
        self.states = states
        self._prefixes = PrefixCache(
            pool, enabled=prefix_caching and not runs_whole, groups=groups, states=states
        )
        self._tables = BlockTables(
            pool,
            self._prefixes,
            max_num_seqs,
            groups=groups,
            max_chunk=max_num_batched_tokens,
            states=states,
        )
        self._policy = BatchPolicy(
            self._tables, max_num_batched_tokens, runs_whole=runs_whole, num_stages=num_stages
        )
        self._sequences: dict[SeqKey, Sequence] = {}
        # The step between schedule and commit: who runs, and who is sampled.
        self._selection = _NOBODY
        self._sampled: list[Sequence] = []
        self._num_arrived = 0
        self._num_stages = num_stages
        self._ahead: deque[StepAhead] = deque()  # whose tokens are to come, oldest first
        self._step = 0
        # Totals, for whoever watches. Prompts include what is computed again after a preemption.
        self.num_prompt_tokens = 0
        self.num_output_tokens = 0

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    @property
    def num_running(self) -> int:
        return len(self._policy.running)

    @property
    def num_waiting(self) -> int:
        return len(self._policy.waiting)

    @property
    def num_preemptions(self) -> int:
        return self._policy.num_preemptions

    @property
    def num_prefix_queries(self) -> int:
        return self._tables.num_prefix_queries

    @property
    def num_prefix_hits(self) -> int:
        return self._tables.num_prefix_hits

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences of the step at hand that get a token, in the order of its samples."""
        return self._sampled

    def newcomers(self) -> list[SeqKey]:
        """The sequences of the step at hand that are new or changed in it: from the step in which
        they join to the first that runs them by a single token."""
        return [seq.key for seq in self._selection.prefills]

    def __contains__(self, key: SeqKey) -> bool:
        """Whether a sequence is waiting or running."""
        return key in self._sequences

    @property
    def credit(self) -> int:
        """Tokens of new work worth having: what two steps could start on beyond what waits."""
        if len(self._sequences) >= self.max_num_seqs:
            return 0
        backlog = sum(
            seq.num_uncomputed_tokens + seq.num_unencoded_tokens for seq in self._sequences.values()
        )
        most = 2 * self.max_num_batched_tokens - backlog
        return max(0, min(most, self._tables.num_free_tokens))

    def add(self, seq: Sequence) -> None:
        """Queue a sequence. Raises ValueError, and keeps nothing of it, if it can never finish."""
        if seq.key in self._sequences:
            raise ValueError(f"sequence {seq.key} exists already")
        if seq.num_tokens == 0:
            raise ValueError("a prompt needs at least one token")
        self._check_ids(seq.token_ids)
        if seq.encoder_ids:
            self._check_ids(seq.encoder_ids)
            if seq.params.prompt_logprobs is not None:
                raise ValueError("an encoder reads the prompt of this model, none scores it")
        self._check_room(seq)
        seq.order = (seq.priority, self._num_arrived)
        self._num_arrived += 1
        self._sequences[seq.key] = seq
        self._policy.enter(seq)

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

    def schedule(self, limit: PrefillLimit = PrefillLimit()) -> StepPlan | None:  # noqa: B008
        """Plan the next step; None when there is nothing to run. Each plan must be committed, or
        taken for run and resolved.

        limit: on prefills where sequences that decode wait for the step.
        """
        assert not self._selection, "the last plan was not committed"
        self._selection = self._policy.select(limit)
        if not self._selection:
            return None
        self._step += 1
        joins = self._tables.take_joins()
        plan, self._sampled = build_step(
            self._step, self._selection, joins, self._tables, self._plan_states()
        )
        return plan

    def advance(self, plan: StepPlan) -> None:
        """Take the step at hand for run, so that the next can be planned before its tokens are
        known. The step before it must be resolved; with several stages, that so many before.

        A sequence that ends with it, whatever its token, gives back its row and blocks: only later
        steps can get them.
        """
        assert len(self._ahead) < self._num_stages, "the step before was not resolved"
        decodes, prefills = self._take_selection(plan)
        ahead = StepAhead(plan.step, list(zip(decodes + prefills, shares_of(plan), strict=True)))
        self._ahead.append(ahead)
        for seq, share in ahead.sequences:
            if seq.status is SequenceStatus.FINISHED:  # by the step before
                continue
            self._count_prompt(seq)
            advance_sequence(seq, share, self._tables, self._prefixes)
            if not seq.num_uncomputed_tokens or (
                share.is_sampled and seq.num_tokens >= seq.max_num_tokens
            ):
                self._policy.leave(seq)

    def resolve(
        self,
        token_ids: ListLike[int],
        logprobs: ListLike[TokenLogprobs | None] = (),
        prompt_logprobs: ListLike[TokenLogprobs] = (),
    ) -> list[tuple[int, SeqOutput]]:
        """Record what the oldest step gave that was taken for run; finish what has ended.

        What it gave a sequence that has been aborted, or that its token before ended, is dropped.
        See commit().
        """
        assert self._ahead, "no step was taken for run"
        ahead = self._ahead.popleft()
        sampled = zip(token_ids, logprobs or itertools.repeat(None, len(token_ids)), strict=True)
        unread = iter(prompt_logprobs)
        outputs = []
        for seq, share in ahead.sequences:
            scored = list(itertools.islice(unread, share.num_scored))
            drawn = next(sampled) if share.is_sampled else None
            if self._sequences.get(seq.key) is not seq:
                continue
            output = self._resolve(seq, drawn, scored)
            if output is not None:
                outputs.append((seq.key[0], output))
        return outputs

    def commit(
        self,
        plan: StepPlan,
        token_ids: ListLike[int],
        logprobs: ListLike[TokenLogprobs | None] = (),
        prompt_logprobs: ListLike[TokenLogprobs] = (),
        num_tokens: ListLike[int] | None = None,
    ) -> list[tuple[int, SeqOutput]]:
        """Record what a step gave; finish what has ended.

        token_ids: those of plan.sample_rows, in order; NO_TOKEN and FAULTY end a sequence in error.
        num_tokens: how many of token_ids each of them got, one at least; None for one each.
        logprobs: one for each of token_ids; empty if nobody asked. prompt_logprobs: one for each of
        plan.logprob_tokens. Returns (worker, output) for every sequence that has news.
        """
        decodes, prefills = self._take_selection(plan)
        sampled = zip(token_ids, logprobs or itertools.repeat(None, len(token_ids)), strict=True)
        unread = iter(prompt_logprobs)
        outputs: list[tuple[int, SeqOutput]] = []
        if num_tokens is None:
            self._record_decodes(decodes, sampled, outputs)
            counts: Iterator[int] = itertools.repeat(1)
        else:
            prefills, counts = decodes + prefills, iter(num_tokens)
        for seq in prefills:
            count = next(counts) if seq.is_sampled else 0
            output = self._record(seq, list(itertools.islice(sampled, count)), unread)
            if output is not None:
                outputs.append((seq.key[0], output))
        return outputs

    def check(self) -> None:
        """Assert the invariants; for tests."""
        self._policy.check()
        ahead = {seq for step in self._ahead for seq, _ in step.sequences}
        num_left = sum(
            seq.status is SequenceStatus.FINISHED and self._sequences.get(seq.key) is seq
            for seq in ahead
        )
        assert self.num_waiting + self.num_running + num_left == len(self._sequences)

    def _check_ids(self, token_ids: list[int]) -> None:
        if min(token_ids) < 0 or max(token_ids) >= self._vocab_size:
            bad_id = next(i for i in token_ids if not 0 <= i < self._vocab_size)
            raise ValueError(
                f"token id {bad_id} is not in the model's vocabulary of {self._vocab_size}"
            )

    def _check_room(self, seq: Sequence) -> None:
        """Set when a sequence ends. Raises ValueError if it can never do so."""
        only_scored = seq.params.max_tokens == 0 and seq.params.prompt_logprobs is not None
        if seq.num_output_tokens >= seq.params.max_tokens and not only_scored:
            raise ValueError("max_tokens leaves nothing to generate")
        room, num_tokens = self.max_model_len, seq.num_tokens
        if seq.encoder_ids:
            # What the decoder begins with is no token of the caller's.
            room += seq.num_prompt_tokens - len(seq.encoder_ids)
            num_tokens = len(seq.encoder_ids) + seq.num_output_tokens
        longest = min(seq.num_prompt_tokens + seq.params.max_tokens, room)
        if seq.num_tokens >= room + only_scored or not self._tables.can_hold(
            longest - 1 + only_scored, len(seq.encoder_ids)
        ):
            raise ValueError(
                f"{num_tokens} tokens and {seq.params.max_tokens} more do not fit: "
                f"the model takes {self.max_model_len}, "
                f"the KV cache holds {self._tables.longest(self.max_model_len)}"
            )
        seq.stop_ids = frozenset((NO_TOKEN, FAULTY, *seq.params.stop_token_ids))
        if not seq.params.ignore_eos:
            seq.stop_ids |= self._eos_token_ids
        seq.max_num_tokens = longest

    def _plan_states(self) -> StateColumns | None:
        """Return which slots the step at hand reads and writes, where layers keep states."""
        if self.states is None:
            return None
        decodes, prefills = self._selection
        wanted = {seq: self._prefixes.snapshots_amid(seq) for seq in prefills}
        return self.states.plan(decodes + prefills, wanted)

    def _take_selection(self, plan: StepPlan) -> Selection:
        """Return who ran in the step at hand, which is over."""
        assert plan.step == self._step, "a plan is committed once, in order"
        selection, self._selection = self._selection, _NOBODY
        if self.states is not None:
            self.states.settle()
        return selection

    def _record_decodes(
        self,
        decodes: list[Sequence],
        sampled: Iterator[tuple[int, TokenLogprobs | None]],
        outputs: list[tuple[int, SeqOutput]],
    ) -> None:
        """Record sequences that ran one token, got one, and had nothing scored.

        That is almost all of them in almost every step, so it is kept short.
        """
        block_size, num_plain = self.pool.block_size, 0
        for seq in decodes:
            token_id, logprobs = next(sampled)
            seq.num_scheduled = 0
            seq.num_computed_tokens = num_computed = seq.num_computed_tokens + 1
            if num_computed % block_size == 0:
                self._prefixes.remember(seq, num_computed - 1)
                self._tables.trim(seq)
            worker, seq_id = seq.key
            is_last = token_id in seq.stop_ids or num_computed + 1 >= seq.max_num_tokens
            if is_last or logprobs is not None:
                end = _append(seq, [token_id])
                outputs.append((worker, self._news(seq, end, [logprobs], [])))
            else:
                seq.token_ids.append(token_id)
                num_plain += 1
                outputs.append((worker, SeqOutput(seq_id, [token_id])))
        self.num_output_tokens += num_plain

    def _record(
        self,
        seq: Sequence,
        sampled: list[tuple[int, TokenLogprobs | None]],
        unread: Iterator[TokenLogprobs],
    ) -> SeqOutput | None:
        """Record the step of any sequence, with the tokens it got; None if it has no news.

        Its newest token is never computed: of drafts that were run, those that were not accepted
        do not count.
        """
        scored = [next(unread) for _ in seq.logprobs_due()]
        seq.num_prompt_logprobs += len(scored)
        if any(math.isnan(each.logprob) for each in scored):
            sampled = [(FAULTY, None)]
        before, count = seq.num_computed_tokens, seq.num_scheduled
        self._count_prompt(seq)
        seq.num_scheduled = 0
        end = _append(seq, [token_id for token_id, _ in sampled])
        computed = before + count
        seq.num_computed_tokens = min(computed, seq.num_tokens - 1) if end.num_new else computed
        self._prefixes.remember(seq, before)
        self._tables.trim(seq)
        seq.is_decoding = end.num_new > 0 and count == 1 and seq.num_uncomputed_tokens == 1
        if sampled:
            return self._news(seq, end, [each for _, each in sampled], scored)
        if seq.num_uncomputed_tokens:
            return SeqOutput(seq.key[1], [], prompt_logprobs=tuple(scored)) if scored else None
        self._finish(seq)  # a prompt that was only to be scored
        return SeqOutput(seq.key[1], [], FinishReason.LENGTH, prompt_logprobs=tuple(scored))

    def _count_prompt(self, seq: Sequence) -> None:
        """Count what the step at hand runs of a sequence's prompt and its encoder's input."""
        left = seq.num_prompt_tokens - seq.num_computed_tokens
        self.num_prompt_tokens += seq.num_unencoded_tokens + max(0, min(seq.num_scheduled, left))

    def _resolve(
        self,
        seq: Sequence,
        drawn: tuple[int, TokenLogprobs | None] | None,
        scored: list[TokenLogprobs],
    ) -> SeqOutput | None:
        """Record what a step gave a sequence that it was taken for run of; None for no news.

        drawn: its token and that one's log-probability, if it was sampled.
        """
        if drawn is not None:
            del seq.token_ids[-1]  # what stood for the token
        if any(math.isnan(each.logprob) for each in scored):
            drawn = FAULTY, None
        if drawn is not None:
            return self._news(seq, _append(seq, [drawn[0]]), [drawn[1]], scored)
        if seq.status is not SequenceStatus.FINISHED or self._is_ahead(seq):
            return SeqOutput(seq.key[1], [], prompt_logprobs=tuple(scored)) if scored else None
        self._finish(seq)  # a prompt that was only to be scored
        return SeqOutput(seq.key[1], [], FinishReason.LENGTH, prompt_logprobs=tuple(scored))

    def _is_ahead(self, seq: Sequence) -> bool:
        """Whether another step runs a sequence that was taken for run."""
        return any(seq is other for step in self._ahead for other, _ in step.sequences)

    def _news(
        self,
        seq: Sequence,
        end: "_Appended",
        logprobs: ListLike[TokenLogprobs | None],
        scored: list[TokenLogprobs],
    ) -> SeqOutput:
        """Return what a sequence's caller is told, and finish it if it is over."""
        if end.fault is not None:
            if end.fault == FAULTY:
                self._prefixes.forget(seq)  # what is in its blocks may be the fault
            self._finish(seq)
            return error_output(seq, end.fault)
        self.num_output_tokens += end.num_new
        told = [each for each in logprobs[: end.num_new] if each is not None]
        output = token_output(seq, end.num_new, end.reason, told, scored)
        if end.reason is not None:
            self._finish(seq)
        return output

    def _finish(self, seq: Sequence) -> None:
        del self._sequences[seq.key]
        if seq.status is not SequenceStatus.FINISHED:  # it may have left with its last step
            self._policy.leave(seq)


class _Appended(NamedTuple):
    """How many tokens a sequence got; what was found in the place of the next; why it is over."""

    num_new: int
    fault: int | None = None
    reason: FinishReason | None = None


def _append(seq: Sequence, token_ids: ListLike[int]) -> _Appended:
    """Append a sequence's next tokens, up to one that ends it."""
    for num_before, token_id in enumerate(token_ids):
        if token_id < 0:
            return _Appended(num_before, fault=token_id)
        seq.token_ids.append(token_id)
        reason = end_reason(seq, token_id)
        if reason is not None:
            return _Appended(num_before + 1, reason=reason)
    return _Appended(len(token_ids))
