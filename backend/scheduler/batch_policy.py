"""The scheduler's policy: who runs in the next step, and how many tokens of each.

Owns order, fairness, room and budget, and the queues of waiting and running sequences. Sees block
tables as room that is there or is not, and of a step's result only which sequences are over. Called
only by the scheduler.
"""

import bisect
from collections.abc import Sequence as ListLike
from typing import NamedTuple

from backend.scheduler.block_tables import BlockTables
from backend.scheduler.fair_share import FairShare, Throttle
from backend.scheduler.prefill_budget import PrefillLimit
from backend.scheduler.sequence import Sequence, SequenceStatus
from backend.scheduler.step_ahead import has_unknown_token

_RUNNING = SequenceStatus.RUNNING
# Where more of them would be needed to compute sequences again, the steps are larger: a group that
# takes over all of another's work, or one long context, would be at it for minutes.
SMALL_STEPS = 48


class Selection(NamedTuple):
    """The sequences of a step, each with its num_scheduled.

    decodes: they run their newest token, are sampled, and have no prompt to score, as almost all.
    prefills: all others, those that run one token first.
    """

    decodes: list[Sequence]
    prefills: list[Sequence]

    def __bool__(self) -> bool:
        return bool(self.decodes or self.prefills)


class BatchPolicy:
    """Selects one step after another."""

    def __init__(
        self,
        tables: BlockTables,
        max_num_tokens: int,
        *,
        runs_whole: bool = False,
        num_stages: int = 1,
    ) -> None:
        """max_num_tokens: a step runs so many at most, more than there are rows.

        runs_whole: all tokens of a sequence run in one step; none has more than max_num_tokens.
        num_stages: of ranks that have some layers each. So many cohorts of decodes are under way
        then, one after the other, each a step: a sequence waits until its newest token is known. A
        prompt's chunks follow one another without that.
        """
        self._runs_whole = runs_whole
        self._num_stages = num_stages
        self.waiting: list[Sequence] = []  # by order
        self.running: list[Sequence] = []  # by order
        self.num_preemptions = 0
        self._tables = tables
        self._shares = FairShare()
        self._max_num_tokens = max_num_tokens
        # The step that is being filled: its sequences, and the tokens that it can still take.
        self._selected: dict[Sequence, None] = {}
        self._budget = 0
        self._has_encoder = False  # whether an encoder runs in that step

    def enter(self, seq: Sequence) -> None:
        """Queue a new sequence."""
        self._shares.enter(seq)
        bisect.insort(self.waiting, seq, key=_by_order)

    def leave(self, seq: Sequence) -> None:
        """Forget a sequence that is over; its row and blocks are free."""
        if seq.status is _RUNNING:
            self._release(seq)
            self.running.remove(seq)
        else:
            self.waiting.remove(seq)
        self._shares.leave(seq)
        seq.status = SequenceStatus.FINISHED

    def select(self, limit: PrefillLimit) -> Selection:
        """Return who runs in the next step, by arrival, with num_scheduled set.

        limit: on prefills beside decodes. Empty if there is nothing to run.
        """
        self._fill(limit, self._shares.throttle(self.running + self.waiting))
        if not self._selected:
            self._fill(limit, Throttle())
        selected, self._selected = self._selected, {}
        decodes = [seq for seq in selected if seq.is_decoding]
        if len(decodes) == len(selected):
            return Selection(decodes, [])
        prefills = [seq for seq in selected if not seq.is_decoding]
        prefills.sort(key=_one_token_first)
        return Selection(decodes, prefills)

    def check(self) -> None:
        """Assert the invariants; for tests."""
        self._tables.check(self.running)
        assert all(not seq.block_tables and seq.row == -1 for seq in self.waiting)
        for queue in (self.waiting, self.running):
            assert [seq.order for seq in queue] == sorted(seq.order for seq in queue)

    def _fill(self, limit: PrefillLimit, throttle: Throttle) -> None:
        """Give the step's tokens to sequences of all tenants but those that sit it out.

        Those one token behind come first, then the prefills.
        """
        running = self.running
        if self._num_stages > 1:
            running = [seq for seq in running if not has_unknown_token(seq)]
        prefills = [s for s in running if not s.is_decoding and s.num_uncomputed_tokens > 1]
        behind = set(prefills)
        decodes = [seq for seq in running if seq not in behind]
        if self._num_stages > 1:
            decodes = decodes[: -(-(len(self.running) - len(prefills)) // self._num_stages)]
        if throttle.decodes:
            decodes = [seq for seq in decodes if seq.tenant not in throttle.decodes]
        if throttle.prefills:
            prefills = [seq for seq in prefills if seq.tenant not in throttle.prefills]
        self._budget, self._has_encoder = self._max_num_tokens, False
        if decodes and (most := _most(limit, prefills + self.waiting)) is not None:
            self._budget = min(self._budget, len(decodes) + most)
        block_size = self._tables.block_size
        for seq in decodes:
            if seq.num_computed_tokens % block_size:  # its last block has room, as almost always
                seq.num_scheduled = 1
                self._selected[seq] = None
                self._budget -= 1
            elif seq.status is _RUNNING:  # or it has just made room for another
                self._extend(seq)
        for seq in prefills:
            if self._budget > 0 and seq.status is _RUNNING:
                self._extend(seq)
        while self._budget > 0 and (head := self._shares.first(self.waiting, throttle.prefills)):
            if not self._start(head):
                break

    def _start(self, seq: Sequence) -> bool:
        """Admit a sequence, at the cost of tenants that hold much more if need be.

        An encoder reads all of its input in one step: one of a step may exceed what that has left.
        A sequence that was preempted before its newest token was known waits for it.
        """
        if has_unknown_token(seq):
            return False
        num_encoded = len(seq.encoder_ids)
        if num_encoded >= self._budget and self._has_encoder:
            return False
        if self._runs_whole and seq.num_tokens > self._budget:
            return False
        while not self._tables.admit(seq, max(1, self._budget - num_encoded), self.running):
            last = self._shares.outweighing(seq, self.running)
            if last is None:
                return False
            self._preempt(last)
        self.waiting.remove(seq)
        bisect.insort(self.running, seq, key=_by_order)
        seq.status = _RUNNING
        self._shares.count_row(seq, 1)
        self._budget -= num_encoded
        self._has_encoder = self._has_encoder or num_encoded > 0
        self._take(seq, min(seq.num_uncomputed_tokens, max(1, self._budget)))
        return True

    def _extend(self, seq: Sequence) -> None:
        """Give a running sequence its tokens, preempting newer ones for blocks if need be."""
        count = min(seq.num_uncomputed_tokens, self._budget)
        while not self._tables.grow(seq, seq.num_computed_tokens + count):
            last = self._shares.last(self.running)
            self._preempt(last)
            if last is seq:
                return
        self._take(seq, count)

    def _take(self, seq: Sequence, count: int) -> None:
        seq.num_scheduled = count
        self._selected[seq] = None
        self._budget -= count

    def _preempt(self, seq: Sequence) -> None:
        """Send a running sequence back to wait; its tokens are kept, its blocks are not."""
        self._release(seq)
        self.running.remove(seq)
        bisect.insort(self.waiting, seq, key=_by_order)
        seq.status = SequenceStatus.WAITING
        self.num_preemptions += 1

    def _release(self, seq: Sequence) -> None:
        """Give back a running sequence's blocks and row, and its share of the step at hand."""
        if seq in self._selected:
            del self._selected[seq]
            self._budget += seq.num_scheduled
        seq.num_scheduled = 0
        self._tables.release(seq)
        self._shares.count_row(seq, -1)


def _most(limit: PrefillLimit, behind: ListLike[Sequence]) -> int | None:
    """Return how many tokens of those behind run beside decodes; None for any number."""
    usual, small = limit
    if usual is None or small is None:
        return usual
    again = sum(seq.num_uncomputed_tokens for seq in behind if seq.num_output_tokens)
    return min(usual, max(small, again // SMALL_STEPS)) if again else usual


def _by_order(seq: Sequence) -> tuple[int, int]:
    return seq.order


def _one_token_first(seq: Sequence) -> bool:
    """Sort key that keeps arrival order within those of one token and within the others."""
    return seq.num_scheduled != 1
