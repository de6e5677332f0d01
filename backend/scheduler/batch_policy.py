"""Who runs in the next step, and how many tokens of each: order, fairness, room, budget.

Owns the queues of waiting and running sequences. Sees rows and blocks as room that is there or is
not, and of a step's result only which sequences are over. Called only by the scheduler.
"""

import bisect
from collections.abc import Sequence as ListLike

from backend.scheduler.block_tables import Rows
from backend.scheduler.fair_share import FairShare, Turn
from backend.scheduler.sequence import Sequence, SequenceStatus

_RUNNING = SequenceStatus.RUNNING
# Where more of them would be needed to compute sequences again, the steps are larger: a group that
# takes over all of another's work, or one long context, would be at it for minutes.
SMALL_STEPS = 48

Bounds = tuple[int | None, int | None]
"""Tokens of prompts beside streams, at most: usually, and while a sequence is computed again."""


class BatchPolicy:
    """Fills one step after another."""

    def __init__(self, rows: Rows, max_num_tokens: int) -> None:
        """max_num_tokens: of a step, more than there are rows."""
        self.waiting: list[Sequence] = []  # by order
        self.running: list[Sequence] = []  # by order
        self.num_preemptions = 0
        self._rows = rows
        self._shares = FairShare()
        self._max_num_tokens = max_num_tokens
        self._chunks: dict[Sequence, int] = {}  # of the step that is being filled
        self._budget = 0  # tokens it can still take

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

    def fill(self, bounds: Bounds) -> dict[Sequence, int]:
        """Return how many tokens of whom the next step runs, those that run one first.

        Each kind is by arrival. Empty if there is nothing to run.
        """
        self._fill(bounds, self._shares.turn(self.running + self.waiting))
        if not self._chunks:
            self._fill(bounds, Turn())
        chunks, self._chunks = self._chunks, {}
        counts = list(chunks.values())
        if 1 in counts[counts.count(1) :]:
            return dict(sorted(chunks.items(), key=_decodes_first))
        return chunks

    def check(self) -> None:
        """Assert the invariants; for tests."""
        self._rows.check(self.running)
        assert all(not seq.block_table and seq.row == -1 for seq in self.waiting)
        for queue in (self.waiting, self.running):
            assert [seq.order for seq in queue] == sorted(seq.order for seq in queue)

    def _fill(self, bounds: Bounds, turn: Turn) -> None:
        """Give the step's tokens to sequences of all tenants but those that sit it out.

        First to those one token behind, then to the prompts.
        """
        prompts = [s for s in self.running if not s.is_settled and s.num_uncomputed_tokens > 1]
        behind = set(prompts)
        streams = [seq for seq in self.running if seq not in behind]
        if turn.streams:
            streams = [seq for seq in streams if seq.tenant not in turn.streams]
        if turn.prompts:
            prompts = [seq for seq in prompts if seq.tenant not in turn.prompts]
        self._budget = self._max_num_tokens
        if streams and (bound := _bound(bounds, prompts + self.waiting)) is not None:
            self._budget = min(self._budget, len(streams) + bound)
        block_size = self._rows.block_size
        for seq in streams:
            if seq.num_computed_tokens % block_size:  # its last block has room, as almost always
                self._chunks[seq] = 1
                self._budget -= 1
            elif seq.status is _RUNNING:  # or it has just made room for another
                self._extend(seq)
        for seq in prompts:
            if self._budget > 0 and seq.status is _RUNNING:
                self._extend(seq)
        while self._budget > 0 and (head := self._shares.first(self.waiting, turn.prompts)):
            if not self._start(head):
                break

    def _start(self, seq: Sequence) -> bool:
        """Admit a sequence, at the cost of tenants that hold much more if need be."""
        while not self._rows.admit(seq, self._budget, self.running):
            last = self._shares.outweighing(seq, self.running)
            if last is None:
                return False
            self._preempt(last)
        self.waiting.remove(seq)
        bisect.insort(self.running, seq, key=_by_order)
        seq.status = _RUNNING
        self._shares.count_row(seq, 1)
        self._take(seq, min(seq.num_uncomputed_tokens, self._budget))
        return True

    def _extend(self, seq: Sequence) -> None:
        """Give a running sequence its tokens, preempting newer ones for blocks if need be."""
        count = min(seq.num_uncomputed_tokens, self._budget)
        while not self._rows.grow(seq, seq.num_computed_tokens + count):
            last = self._shares.last(self.running)
            self._preempt(last)
            if last is seq:
                return
        self._take(seq, count)

    def _take(self, seq: Sequence, count: int) -> None:
        self._chunks[seq] = count
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
        self._budget += self._chunks.pop(seq, 0)
        self._rows.release(seq)
        self._shares.count_row(seq, -1)


def _bound(bounds: Bounds, behind: ListLike[Sequence]) -> int | None:
    """Return how many tokens of those behind run beside streams; None for any number."""
    usual, small = bounds
    if usual is None or small is None:
        return usual
    rebuilt = sum(seq.num_uncomputed_tokens for seq in behind if seq.num_output_tokens)
    return min(usual, max(small, rebuilt // SMALL_STEPS)) if rebuilt else usual


def _by_order(seq: Sequence) -> tuple[int, int]:
    return seq.order


def _decodes_first(chunk: tuple[Sequence, int]) -> bool:
    """Sort key that keeps arrival order within one-token chunks and within the others."""
    return chunk[1] != 1
