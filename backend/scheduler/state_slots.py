"""Slots for what layers keep of fixed size for each sequence, and snapshots for the prefix cache.

A running sequence has one slot, which each step reads and writes. Where its states are to be kept,
the next step reads that slot and writes another: nothing is copied. What is left is a snapshot,
known by the hash of the tokens up to there, and free: the least recently used is overwritten first.
A prompt that begins alike reads the snapshot and writes a slot of its own. Inside a step's tokens a
state is kept by ending a segment there, which writes a slot that nobody owns then.

Knows slots, hashes and counts of tokens, never tensors. Called by the scheduler, its block tables
and its prefix cache.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as ListLike

from backend.scheduler.block_pool import BlockPool
from backend.scheduler.sequence import Sequence
from backend.step import StateColumns
from backend.wire.messages import StateFigures

# Of a sequence: blocks behind which its states are kept, each with the hash up to there.
Wanted = dict[Sequence, list[tuple[int, bytes]]]

# The pool knows content by group and hash; there is one group of states.
_GROUP = 0


class StateSlots:
    """Gives sequences slots, and takes them back.

    For each sequence that may yet run a slot stays free: what others keep as snapshots comes out of
    the rest. So a sequence that gets a row always gets a slot.
    """

    def __init__(
        self, num_slots: int, max_num_seqs: int, block_size: int, snapshot_interval: int
    ) -> None:
        """snapshot_interval: tokens, a multiple of block_size; where a prompt's states are kept
        beside its last full block."""
        assert num_slots >= max_num_seqs, "each running sequence has a slot"
        self.pool = BlockPool(num_slots, 1)
        self._block_size = block_size
        self._interval = snapshot_interval // block_size
        self._num_hits = 0
        self._num_taken = 0  # snapshots that the sequence itself has overwritten
        self._num_to_come = max_num_seqs  # sequences that may yet run beside those that do
        # Of the step at hand: who reads one slot and writes another, and what is kept amid it.
        self._moving: list[Sequence] = []
        self._kept: list[tuple[int, bytes]] = []

    @property
    def figures(self) -> StateFigures:
        """What there is, and what has been done with it."""
        return StateFigures(
            self.pool.num_blocks - self.pool.num_free,
            self.pool.num_known,
            self._num_hits,
            self.pool.num_evictions + self._num_taken,
        )

    def holds(self, prefix: bytes) -> bool:
        """Whether there is a snapshot behind the tokens of that hash."""
        return self.pool.holds((_GROUP, prefix))

    def begin(self, seq: Sequence, prefix: bytes | None) -> None:
        """Give a sequence that is to run a slot, and what it goes on from, a snapshot or nothing.

        prefix: of the snapshot, which must be there.
        """
        if prefix is not None:
            seq.state_slot = self.pool.share((_GROUP, prefix))
            self._num_hits += 1
        if self._num_to_come <= self.pool.num_free:
            seq.next_slot = self._allocate()
        else:
            # None is free beside those of sequences to come: the snapshot itself is overwritten.
            assert prefix is not None, "a slot was kept free for it"
            self.pool.forget((_GROUP, prefix))
            self._num_taken += 1
            seq.next_slot = seq.state_slot
        self._num_to_come -= 1

    def release(self, seq: Sequence) -> None:
        """Take back the slots of a sequence, which runs no more."""
        self._num_to_come += 1
        for slot in {seq.state_slot, seq.next_slot} - {-1}:
            self._free(slot)
        seq.state_slot = seq.next_slot = -1

    def borders(self, seq: Sequence) -> Iterator[int]:
        """Yield the blocks amid a sequence's share of the step behind which states are kept."""
        size, start = self._block_size, seq.num_computed_tokens
        first, end = start // size + 1, -(-(start + seq.num_scheduled) // size)
        last = (seq.num_tokens - 1) // size
        for block in range(first, end):
            if block in (last, seq.num_matched_blocks) or block % self._interval == 0:
                yield block

    def plan(self, sequences: ListLike[Sequence], wanted: Wanted) -> StateColumns:
        """Return the segments of a step's sequences, each with its num_scheduled.

        wanted: of each that is cut, the blocks of borders() with their hashes.
        """
        starts, reads, writes = [0], [], []
        for seq in sequences:
            read, start, place = seq.state_slot, seq.num_computed_tokens, starts[-1]
            for block, prefix in wanted.get(seq, ()):
                if self._num_spare > 0 and not self.holds(prefix):
                    slot = self._allocate()
                    self._kept.append((slot, prefix))
                    starts.append(place + block * self._block_size - start)
                    reads.append(read)
                    writes.append(slot)
                    read = slot
            starts.append(place + seq.num_scheduled)
            reads.append(read)
            writes.append(seq.next_slot)
            if seq.state_slot != seq.next_slot:
                self._moving.append(seq)
        return StateColumns(starts, reads, writes)

    def settle(self) -> None:
        """Note that the step at hand has run: what it wrote is what its sequences go on from."""
        for seq in self._moving:
            before, seq.state_slot = seq.state_slot, seq.next_slot
            if before >= 0:
                self._free(before)
        for slot, prefix in self._kept:
            self.pool.remember(slot, (_GROUP, prefix))
            self._free(slot)
        self._moving, self._kept = [], []

    def keep(self, seq: Sequence, prefix: bytes) -> None:
        """Keep the states of a sequence that stands behind a full block, if they are wanted.

        They are behind the last full block of what it has to compute, where its prefix parts from
        those of others, and at every interval. Of an answer only the newest are worth much: the one
        before is overwritten first.
        """
        block = seq.num_computed_tokens // self._block_size
        last = (seq.num_tokens - 1) // self._block_size
        is_wanted = block >= last or block == seq.num_matched_blocks or block % self._interval == 0
        if not is_wanted or self._num_spare <= 0 or self.holds(prefix):
            return
        self.pool.remember(seq.state_slot, (_GROUP, prefix))
        seq.next_slot = self._allocate()
        if seq.newest_snapshot:
            self.pool.reuse_first((_GROUP, seq.newest_snapshot))
        is_answer = seq.num_computed_tokens > seq.num_prompt_tokens
        seq.newest_snapshot = prefix if is_answer else b""

    def forget(self, prefixes: Iterable[bytes]) -> None:
        """Let nobody new go on from what a sequence has left."""
        for prefix in prefixes:
            self.pool.forget((_GROUP, prefix))

    def check(self, running: Iterable[Sequence]) -> None:
        """Assert that slots are exactly those of the running sequences; for tests."""
        running = list(running)
        assert not self._moving and not self._kept, "a step was not settled"
        self.pool.check([*({seq.state_slot, seq.next_slot} - {-1})] for seq in running)
        assert self.pool.num_free >= self._num_to_come, "a sequence might get no slot"
        written = [seq.next_slot for seq in running]
        assert len(set(written)) == len(written) and -1 not in written
        assert not any(self.pool.is_known(slot) for slot in written), "a snapshot is overwritten"
        assert all((seq.state_slot >= 0) == (seq.num_computed_tokens > 0) for seq in running)
        for seq in running:
            others = {slot for s in running if s is not seq for slot in (s.state_slot,)}
            assert seq.next_slot not in others, "what another reads would be overwritten"

    @property
    def _num_spare(self) -> int:
        """Slots that are free and that no sequence to come will need."""
        return self.pool.num_free - self._num_to_come

    def _allocate(self) -> int:
        slots = self.pool.allocate(1)
        assert slots is not None, "one was free"
        return slots[0]

    def _free(self, slot: int) -> None:
        """Give back one reference; what is no snapshot is overwritten before all that are."""
        self.pool.free([slot], reuse_first=not self.pool.is_known(slot))
