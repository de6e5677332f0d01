"""Rows and blocks of running sequences, without a scheduler."""

import numpy as np

from backend.scheduler.block_pool import BlockPool
from backend.scheduler.block_tables import FIRST_WIDTH, Rows
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import Sequence
from backend.wire.sampling import SamplingParams


def make_rows(num_blocks: int = 64, block_size: int = 1, max_num_seqs: int = 2) -> Rows:
    pool = BlockPool(num_blocks, block_size)
    return Rows(pool, PrefixCache(pool, enabled=True), max_num_seqs)


def make_sequence(number: int, num_tokens: int) -> Sequence:
    return Sequence((0, number), [number] * num_tokens, num_tokens, SamplingParams())


def test_lines_grow_with_the_longest_and_are_padded_with_their_last_block() -> None:
    rows = make_rows()
    short, long = make_sequence(1, 2), make_sequence(2, 3)
    assert rows.admit(short, 2, []) and rows.admit(long, 3, [short])
    for num_tokens in (FIRST_WIDTH, FIRST_WIDTH + 1, 3 * FIRST_WIDTH):
        assert rows.grow(long, num_tokens)
        rows.check([short, long])
    tables = rows.tables(np.array([long.row, short.row], np.int32), 3 * FIRST_WIDTH)
    assert tables[0].tolist() == long.block_table
    first, last = short.block_table
    assert tables[1].tolist() == [first] + [last] * (3 * FIRST_WIDTH - 1)


def test_whoever_finds_no_room_changes_nothing() -> None:
    rows = make_rows(num_blocks=8, max_num_seqs=3)
    first, second = make_sequence(1, 6), make_sequence(2, 3)
    assert rows.admit(first, 4, [])
    assert not rows.admit(second, 3, [first])  # of four free blocks two are for the first's prompt
    assert not rows.grow(first, 9)
    rows.check([first])
    rows.release(first)
    assert rows.admit(second, 3, []) and [join.row for join in rows.take_joins()] == [second.row]
    rows.check([second])


def test_a_row_that_is_taken_back_before_the_step_does_not_join() -> None:
    rows = make_rows()
    seq = make_sequence(1, 3)
    assert rows.admit(seq, 3, [])
    rows.release(seq)
    assert rows.take_joins() == [] and seq.num_computed_tokens == 0
    rows.check([])
