"""The block tables of a batch: which sequence has which row, and which KV blocks it holds.

Owns one array with a row for each running sequence, so that a step takes the rows it needs as they
are. Knows sequences, the pool and the prefix cache, not whose turn it is. Called only by the
scheduler.
"""

from collections.abc import Iterable

import numpy as np

from backend.scheduler.block_pool import BlockPool
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import Sequence
from backend.step import Ints, Join

# A row is doubled as often as a sequence needs more blocks.
FIRST_WIDTH = 16


class BlockTables:
    """Gives sequences rows and blocks, and takes them back.

    A row of the array is the sequence's block_table, then its last block again to the end. What is
    gathered there is hidden, but would spoil the sequence if it held another's NaN.
    """

    def __init__(self, pool: BlockPool, prefixes: PrefixCache, max_num_seqs: int) -> None:
        self.num_prefix_queries = 0  # tokens looked for in the prefix cache
        self.num_prefix_hits = 0  # and found
        self._pool = pool
        self._prefixes = prefixes
        self._free = list(reversed(range(max_num_seqs)))
        self._tables = np.zeros((max_num_seqs, FIRST_WIDTH), np.int32)
        self._prompt_lens = np.zeros(max_num_seqs, np.int32)
        self._joins: list[Join] = []

    @property
    def block_size(self) -> int:
        return self._pool.block_size

    def admit(self, seq: Sequence, most: int, running: Iterable[Sequence]) -> bool:
        """Give a sequence a row, what is cached of its prompt, and blocks for `most` tokens more.

        False, and nothing has changed, unless a row and blocks for its whole prompt are free.
        running: they need blocks for their prompts, too, and one each to grow, or the newcomer
        would soon be preempted again.
        """
        if not self._free:
            return False
        shared = self._prefixes.match(seq)
        needed = self._num_blocks(seq.num_tokens) - len(shared)
        if needed > self._pool.num_free - self._num_promised(running):
            self._pool.free(shared)
            return False
        seq.row = self._free.pop()
        self._count_cached(seq, len(shared) * self._pool.block_size)
        self._prompt_lens[seq.row] = seq.num_prompt_tokens
        self._append(seq, shared)
        has_grown = self.grow(seq, min(seq.num_tokens, seq.num_computed_tokens + most))
        assert has_grown, "the whole prompt was counted above"
        history = seq.token_ids.copy() if seq.params.looks_back else []
        self._joins.append(Join(seq.row, seq.params, history, seq.num_prompt_tokens))
        return True

    def grow(self, seq: Sequence, num_tokens: int) -> bool:
        """Let a sequence hold num_tokens; False, and nothing has changed, if blocks are short."""
        missing = self._num_missing(seq, num_tokens)
        if missing > 0:
            blocks = self._pool.allocate(missing)
            if blocks is None:
                return False
            self._append(seq, blocks)
        return True

    def release(self, seq: Sequence) -> None:
        """Take back a sequence's row and blocks; it has computed nothing then."""
        self._pool.free(seq.block_table)
        self._joins = [join for join in self._joins if join.row != seq.row]
        self._free.append(seq.row)
        seq.block_table = []
        seq.row = -1
        seq.is_decoding = False
        seq.num_computed_tokens = 0

    def take_joins(self) -> list[Join]:
        """Return the rows that were given since the last call and not taken back."""
        joins, self._joins = self._joins, []
        return joins

    def tables(self, rows: Ints, num_tokens: int) -> Ints:
        """Return the blocks of those rows as far as num_tokens need them, [rows, blocks]."""
        return self._tables[rows, : self._num_blocks(num_tokens)]

    def prompt_lens(self, rows: Ints) -> Ints:
        """Return the lengths of those rows' prompts."""
        return self._prompt_lens[rows]

    def can_hold(self, num_tokens: int) -> bool:
        """Whether a sequence of so many tokens would fit if it were alone."""
        return self._num_blocks(num_tokens) <= self._pool.num_blocks

    def check(self, running: Iterable[Sequence]) -> None:
        """Assert that rows and blocks are exactly those of the running sequences; for tests."""
        running = list(running)
        self._pool.check(seq.block_table for seq in running)
        assert sorted(self._free + [seq.row for seq in running]) == list(range(len(self._tables)))
        for seq in running:
            padding = seq.block_table[-1:] * (self._tables.shape[1] - len(seq.block_table))
            assert self._tables[seq.row].tolist() == seq.block_table + padding, "a row is off"

    def _count_cached(self, seq: Sequence, num_cached: int) -> None:
        seq.num_computed_tokens = num_cached
        if self._prefixes.serves(seq):
            self.num_prefix_queries += seq.num_tokens
            self.num_prefix_hits += num_cached
        if seq.num_output_tokens == 0:
            seq.num_cached_tokens = num_cached

    def _append(self, seq: Sequence, blocks: list[int]) -> None:
        if not blocks:
            return
        start = len(seq.block_table)
        seq.block_table += blocks
        end = len(seq.block_table)
        while end > self._tables.shape[1]:
            self._tables = np.pad(self._tables, ((0, 0), (0, self._tables.shape[1])), mode="edge")
        self._tables[seq.row, start:end] = blocks
        self._tables[seq.row, end:] = blocks[-1]

    def _num_promised(self, running: Iterable[Sequence]) -> int:
        return sum(
            1 if seq.is_decoding else max(1, self._num_missing(seq, seq.num_tokens))
            for seq in running
        )

    def _num_missing(self, seq: Sequence, num_tokens: int) -> int:
        return self._num_blocks(num_tokens) - len(seq.block_table)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._pool.block_size)
