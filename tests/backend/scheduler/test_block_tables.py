"""Block tables of running sequences, without a scheduler."""

from collections.abc import Sequence as ListLike

import numpy as np

from backend.config.cache_groups import FULL_GROUPS, CacheGroup
from backend.scheduler.block_pool import BlockPool
from backend.scheduler.block_tables import FIRST_WIDTH, BlockTables
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import Sequence
from backend.wire.sampling import SamplingParams


def make_tables(
    num_blocks: int = 64,
    block_size: int = 1,
    max_num_seqs: int = 2,
    groups: ListLike[CacheGroup] = FULL_GROUPS,
) -> BlockTables:
    pool = BlockPool(num_blocks, block_size)
    prefixes = PrefixCache(pool, enabled=True, groups=groups)
    return BlockTables(pool, prefixes, max_num_seqs, groups=groups, max_chunk=8)


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


def test_window_gives_back_what_is_not_seen_any_more() -> None:
    tables = make_tables(block_size=4, groups=[CacheGroup((0,)), CacheGroup((1,), 6)])
    seq = make_sequence(1, 23)
    assert tables.admit(seq, 8, [])
    full, window = ([*table] for table in seq.block_tables)
    seq.num_computed_tokens = 8
    tables.trim(seq)
    # The token at 8 sees from 3 on: the first block is still in view.
    assert seq.block_tables == [full, window]
    assert tables.grow(seq, 16)
    seq.num_computed_tokens = 16
    tables.trim(seq)
    assert seq.num_blocks == 4 and len(seq.block_tables[0]) == 4
    assert len(seq.block_tables[1]) == 2
    rows = tables.tables(np.array([seq.row], np.int32), 16)[:, 0].tolist()
    oldest, newest = seq.block_tables[1]
    assert rows == [seq.block_tables[0], [oldest, oldest, oldest, newest]]
    tables.check([seq])
    tables.release(seq)
    tables.check([])


def test_window_that_sees_one_token_keeps_none_between_steps() -> None:
    tables = make_tables(block_size=4, groups=[CacheGroup((0,)), CacheGroup((1,), 1)])
    seq = make_sequence(1, 12)
    assert tables.admit(seq, 8, [])
    seq.num_computed_tokens = 8
    tables.trim(seq)
    assert seq.block_tables[1] == [] and seq.num_blocks == 2
    assert tables.grow(seq, 12)
    [block] = seq.block_tables[1]
    assert tables.tables(np.array([seq.row], np.int32), 12)[1].tolist() == [[block] * 3]
    tables.check([seq])


def test_admission_counts_a_window_and_not_the_prompt() -> None:
    """A prompt of 40 tokens needs ten blocks that are kept, and five of the window at a time."""
    groups = [CacheGroup((0,)), CacheGroup((1,), 10)]
    seq = make_sequence(1, 40)
    assert not make_tables(14, 4, groups=groups).admit(seq, 8, [])
    tables = make_tables(15, 4, groups=groups)
    assert tables.can_hold(40) and not tables.can_hold(41)
    assert tables.longest(1000) == 40
    assert tables.admit(seq, 8, [])
    while seq.num_computed_tokens < 40:
        assert tables.grow(seq, min(40, seq.num_computed_tokens + 8))
        seq.num_computed_tokens = min(40, seq.num_computed_tokens + 8)
        tables.trim(seq)
        tables.check([seq])
    # Ten are kept, and the last three of the window: two of its blocks serve others now.
    assert [len(table) for table in seq.block_tables] == [10, 3]
    assert tables.admit(make_sequence(2, 4), 4, [])


def test_tables_of_a_model_without_a_cache_are_empty() -> None:
    tables = make_tables(0, 4, groups=[])
    seq = make_sequence(1, 40)
    assert tables.can_hold(10**6) and tables.admit(seq, 40, [])
    assert tables.tables(np.array([seq.row], np.int32), 40).shape == (0, 1, 10)
    tables.check([seq])
    tables.release(seq)
    tables.check([])
