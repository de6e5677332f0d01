"""The block tables of a batch: which sequence has which row, and which KV blocks it holds.

Owns one array with a row for each running sequence in each cache group, so that a step takes the
rows it needs as they are. Knows sequences, the pool and the prefix cache, not whose turn it is.
Called only by the scheduler.
"""

import sys
from collections.abc import Iterable
from collections.abc import Sequence as ListLike

import numpy as np

from backend.config.cache_groups import (
    FULL_GROUPS,
    CacheGroup,
    blocks_of_sequence,
    longest_sequence,
)
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import Sequence
from backend.scheduler.state_slots import StateSlots
from backend.step import Ints, Join

# A row is doubled as often as a sequence needs more blocks.
FIRST_WIDTH = 16


class BlockTables:
    """Gives sequences rows and blocks, and takes them back.

    A sequence has equally many blocks in every cache group, from its first token to its last, but a
    group with a window gives back those that no token to come sees. A row of the array is the
    sequence's blocks of a group; where it has none, the nearest that it has. What is gathered there
    is hidden, but would spoil the sequence if it held another's NaN.
    """

    def __init__(
        self,
        pool: BlockPool,
        prefixes: PrefixCache,
        max_num_seqs: int,
        *,
        groups: ListLike[CacheGroup] = FULL_GROUPS,
        max_chunk: int = 0,
        states: StateSlots | None = None,
    ) -> None:
        """max_chunk: tokens that a step runs of one sequence at most; of interest to windows.

        states: slots of layers that keep states.
        """
        self._states = states
        self.num_prefix_queries = 0  # tokens looked for in the prefix cache
        self.num_prefix_hits = 0  # and found
        self._pool = pool
        self._prefixes = prefixes
        self._groups = groups
        self._windowed = [(g, group) for g, group in enumerate(groups) if group.window]
        self._max_chunk = max_chunk
        self._free = list(reversed(range(max_num_seqs)))
        self._tables = np.zeros((len(groups), max_num_seqs, FIRST_WIDTH), np.int32)
        self._prompt_lens = np.zeros(max_num_seqs, np.int32)
        # Of what sequences attend to of an encoder's input: lengths, and blocks as in _tables.
        self._cross_lens = np.zeros(max_num_seqs, np.int32)
        self._cross = np.zeros((max_num_seqs, 0), np.int32)
        self._joins: list[Join] = []

    @property
    def block_size(self) -> int:
        return self._pool.block_size

    @property
    def num_free_tokens(self) -> int:
        """Tokens that fit in the free blocks before any of them comes back."""
        if not self._groups:
            return sys.maxsize
        return self._pool.num_free * self._pool.block_size // len(self._groups)

    def admit(self, seq: Sequence, most: int, running: Iterable[Sequence]) -> bool:
        """Give a sequence a row, what is cached of its prompt, and blocks for `most` tokens more.

        False, and nothing has changed, unless a row and blocks for its whole prompt are free, and
        for all that its encoder reads.
        running: they need blocks for their prompts, too, and one each to grow, or the newcomer
        would soon be preempted again.
        """
        if not self._free:
            return False
        num_shared, shared = self._prefixes.match(seq)
        needed = self._num_missing(seq.num_tokens, num_shared, shared)
        needed += self._num_blocks(len(seq.encoder_ids))
        if needed > self._pool.num_free - self._num_promised(running):
            self._pool.free(_by_index(shared))
            return False
        if self._states:
            self._states.begin(seq, self._prefixes.hash_of(seq, num_shared))
        seq.row = self._free.pop()
        self._count_cached(seq, num_shared * self._pool.block_size)
        self._prompt_lens[seq.row] = seq.num_prompt_tokens
        seq.block_tables = [[] for _ in self._groups]
        if num_shared:
            self._append(seq, num_shared, shared)
        if seq.encoder_ids:
            self._allocate_cross(seq)
        has_grown = self.grow(seq, min(seq.num_tokens, seq.num_computed_tokens + most))
        assert has_grown, "the whole prompt was counted above"
        history = seq.token_ids.copy() if seq.params.looks_back else []
        join = Join(seq.row, seq.params, history, seq.num_prompt_tokens, seq.second_segment)
        self._joins.append(join)
        return True

    def grow(self, seq: Sequence, num_tokens: int) -> bool:
        """Let a sequence hold num_tokens; False, and nothing has changed, if blocks are short."""
        missing = self._num_blocks(num_tokens) - seq.num_blocks
        if missing > 0:
            blocks = self._pool.allocate(missing * len(self._groups))
            if blocks is None:
                return False
            parts = [blocks]
            if len(blocks) > missing:
                parts = [blocks[i : i + missing] for i in range(0, len(blocks), missing)]
            self._append(seq, missing, parts)
        return True

    def trim(self, seq: Sequence) -> None:
        """Give back what no token of a sequence sees any more.

        Called when a step is over that has filled a block: a block that leaves a window before its
        sequence needs another waits for that. What others may find in the prefix cache is the
        prompt and, for the next turn, the end: blocks from amid an answer are reused first, so that
        one that goes on for long takes nothing from the cache.
        """
        for g, group in self._windowed:
            table, size = seq.block_tables[g], self._pool.block_size
            first = group.first_block(seq.num_computed_tokens, size)
            before = seq.num_blocks - len(table)
            if first > before:
                gone = table[: first - before]
                del table[: first - before]
                if table:
                    self._tables[g, seq.row, :first] = table[0]
                is_answer = before * size >= seq.num_prompt_tokens
                self._pool.free(gone, reuse_first=is_answer)

    def release(self, seq: Sequence) -> None:
        """Take back a sequence's row and blocks; it has computed nothing then."""
        self._pool.free(_by_index(seq.block_tables))
        self._pool.free(seq.cross_table)
        if self._states:
            self._states.release(seq)
        self._joins = [join for join in self._joins if join.row != seq.row]
        self._free.append(seq.row)
        seq.block_tables = []
        seq.cross_table = []
        seq.num_blocks = 0
        seq.row = -1
        seq.is_decoding = False
        seq.num_computed_tokens = 0

    def take_joins(self) -> list[Join]:
        """Return the rows that were given since the last call and not taken back."""
        joins, self._joins = self._joins, []
        return joins

    def tables(self, rows: Ints, num_tokens: int) -> Ints:
        """Return the blocks of those rows, as far as num_tokens need them, [groups, rows, b]."""
        return self._tables[:, rows, : self._num_blocks(num_tokens)]

    def cross(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return how much of encoders' inputs those rows attend to, and its blocks, [rows, b]."""
        lens = self._cross_lens[rows]
        return lens, self._cross[rows, : self._num_blocks(int(lens.max()))]

    def prompt_lens(self, rows: Ints) -> Ints:
        """Return the lengths of those rows' prompts."""
        return self._prompt_lens[rows]

    def can_hold(self, num_tokens: int, num_encoder_tokens: int = 0) -> bool:
        """Whether a sequence of so many tokens would fit if it were alone."""
        num_blocks = self._most_blocks(num_tokens) + self._num_blocks(num_encoder_tokens)
        return num_blocks <= self._pool.num_blocks

    def longest(self, limit: int) -> int:
        """Return how many tokens a sequence may have if it is alone, limit at most."""
        pool = self._pool
        return longest_sequence(
            self._groups, pool.num_blocks, pool.block_size, self._max_chunk, limit
        )

    def check(self, running: Iterable[Sequence]) -> None:
        """Assert that rows and blocks are exactly those of the running sequences; for tests."""
        running = list(running)
        self._pool.check(t for seq in running for t in (*seq.block_tables, seq.cross_table))
        if self._states:
            self._states.check(running)
        rows = sorted(self._free + [seq.row for seq in running])
        assert rows == list(range(len(self._prompt_lens)))
        for seq in running:
            for g, (group, table) in enumerate(zip(self._groups, seq.block_tables, strict=True)):
                first = seq.num_blocks - len(table)
                oldest = group.first_block(seq.num_computed_tokens, self.block_size)
                assert first <= oldest, "a block that is needed was given back"
                assert group.window or first == 0, "a group without a window keeps all blocks"
                if table:  # else none is needed before the next is allocated
                    row = self._tables[g, seq.row].tolist()
                    padding = table[-1:] * (len(row) - seq.num_blocks)
                    assert row == table[:1] * first + table + padding, "a row is off"
            if seq.encoder_ids:
                table, row = seq.cross_table, self._cross[seq.row].tolist()
                assert len(table) == self._num_blocks(len(seq.encoder_ids)), "encoder has no room"
                assert row == table + table[-1:] * (len(row) - len(table)), "a cross row is off"

    def _count_cached(self, seq: Sequence, num_cached: int) -> None:
        seq.num_computed_tokens = num_cached
        if self._prefixes.serves(seq):
            self.num_prefix_queries += seq.num_tokens
            self.num_prefix_hits += num_cached
        if seq.num_output_tokens == 0:
            seq.num_cached_tokens = num_cached

    def _allocate_cross(self, seq: Sequence) -> None:
        """Give a sequence blocks for all that its encoder reads, which were counted before."""
        count = self._num_blocks(len(seq.encoder_ids))
        blocks = self._pool.allocate(count)
        assert blocks is not None, "the whole input was counted"
        seq.cross_table = blocks
        if count > self._cross.shape[1]:
            before = self._cross
            self._cross = np.zeros((len(before), 2 * count), np.int32)
            if before.shape[1]:
                self._cross[:] = before[:, -1:]
                self._cross[:, : before.shape[1]] = before
        self._cross_lens[seq.row] = len(seq.encoder_ids)
        self._cross[seq.row, :count] = blocks
        self._cross[seq.row, count:] = blocks[-1]

    def _append(self, seq: Sequence, count: int, parts: list[list[int]]) -> None:
        """Add `count` blocks in each group, of which a part is the last."""
        seq.num_blocks = end = seq.num_blocks + count
        while end > self._tables.shape[2]:
            more = ((0, 0), (0, 0), (0, self._tables.shape[2]))
            self._tables = np.pad(self._tables, more, mode="edge")
        for g, part in enumerate(parts):
            if not part:
                continue
            table, row = seq.block_tables[g], self._tables[g, seq.row]
            if len(part) < end and not table:
                row[:end] = part[0]
            table += part
            if len(part) > 1:
                row[end - len(part) : end] = part
            row[end - 1 :] = part[-1]

    def _num_promised(self, running: Iterable[Sequence]) -> int:
        least = len(self._groups)
        return sum(
            least
            if seq.is_decoding
            else max(least, self._num_missing(seq.num_tokens, seq.num_blocks, seq.block_tables))
            for seq in running
        )

    def _num_missing(self, num_tokens: int, num_blocks: int, tables: list[list[int]]) -> int:
        """Blocks that a sequence needs at a time beyond those it has, to hold num_tokens.

        num_blocks, tables: as the sequence has them.
        """
        if not self._windowed:
            return (self._num_blocks(num_tokens) - num_blocks) * len(self._groups)
        size = self._pool.block_size
        return sum(
            min(
                self._num_blocks(num_tokens) - num_blocks,
                max(0, group.max_blocks(num_tokens, size, self._max_chunk) - len(table)),
            )
            for group, table in zip(self._groups, tables, strict=True)
        )

    def _most_blocks(self, num_tokens: int) -> int:
        return blocks_of_sequence(self._groups, num_tokens, self._pool.block_size, self._max_chunk)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self._pool.block_size)


def _by_index(tables: ListLike[list[int]]) -> list[int]:
    """Put blocks of several groups in the order of the tokens they hold; all end with the same.

    So that what is left in the prefix cache is of use in every group.
    """
    if len(tables) == 1:
        return tables[0]
    longest = max(map(len, tables), default=0)
    return [table[-n] for n in range(longest, 0, -1) for table in tables if n <= len(table)]
