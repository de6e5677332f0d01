"""Block tables of running sequences, without a scheduler."""

import numpy as np

from backend.scheduler.block_pool import BlockPool
from backend.scheduler.block_tables import FIRST_WIDTH, BlockTables
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import Sequence
from backend.wire.sampling import SamplingParams


def make_tables(num_blocks: int = 64, block_size: int = 1, max_num_seqs: int = 2) -> BlockTables:
    pool = BlockPool(num_blocks, block_size)
    return BlockTables(pool, PrefixCache(pool, enabled=True), max_num_seqs)


def make_sequence(number: int, num_tokens: int) -> Sequence:
    return Sequence((0, number), [number] * num_tokens, num_tokens, SamplingParams())


def test_tables_grow_with_the_longest_padded_with_last_blocks() -> None:
    block_tables = make_tables()
    short, long = make_sequence(1, 2), make_sequence(2, 3)
    assert block_tables.admit(short, 2, []) and block_tables.admit(long, 3, [short])
    for num_tokens in (FIRST_WIDTH, FIRST_WIDTH + 1, 3 * FIRST_WIDTH):
        assert block_tables.grow(long, num_tokens)
        block_tables.check([short, long])
    tables = block_tables.tables(np.array([long.row, short.row], np.int32), 3 * FIRST_WIDTH)
    assert tables[0, 0].tolist() == long.block_tables[0]
    first, last = short.block_tables[0]
    assert tables[0, 1].tolist() == [first] + [last] * (3 * FIRST_WIDTH - 1)


def test_no_room_changes_nothing() -> None:
    block_tables = make_tables(num_blocks=8, max_num_seqs=3)
    first, second = make_sequence(1, 6), make_sequence(2, 3)
    assert block_tables.admit(first, 4, [])
    assert not block_tables.admit(
        second, 3, [first]
    )  # of four free blocks two are for the first's prompt
    assert not block_tables.grow(first, 9)
    block_tables.check([first])
    block_tables.release(first)
    assert block_tables.admit(second, 3, []) and [
        join.row for join in block_tables.take_joins()
    ] == [second.row]
    block_tables.check([second])


def test_row_released_before_the_step_does_not_join() -> None:
    block_tables = make_tables()
    seq = make_sequence(1, 3)
    assert block_tables.admit(seq, 3, [])
    block_tables.release(seq)
    assert block_tables.take_joins() == [] and seq.num_computed_tokens == 0
    block_tables.check([])
