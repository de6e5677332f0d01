"""Blocks: what is free, what is shared, what is remembered."""

import pytest

from backend.scheduler.block_pool import BlockPool, block_hash, root_hash

KEY = (0, b"h")


def test_allocation_is_all_or_nothing() -> None:
    pool = BlockPool(3, 4)
    assert pool.allocate(4) is None and pool.num_free == 3
    blocks = pool.allocate(3)
    assert blocks is not None and sorted(blocks) == [0, 1, 2]
    pool.check([blocks])


def test_shared_block_is_free_only_when_its_last_user_left() -> None:
    pool = BlockPool(2, 4)
    blocks = pool.allocate(1) or []
    pool.remember(blocks[0], KEY)
    assert pool.share(KEY) == blocks[0]
    pool.free(blocks)
    assert pool.num_free == 1
    pool.free(blocks)
    assert pool.num_free == 2


def test_freed_block_is_found_until_it_is_allocated_again() -> None:
    pool = BlockPool(2, 4)
    blocks = pool.allocate(2) or []
    pool.remember(blocks[0], KEY)
    pool.free(blocks)
    assert pool.share(KEY) == blocks[0]
    pool.free(blocks[:1])
    pool.allocate(2)
    assert not pool.holds(KEY)
    with pytest.raises(KeyError):
        pool.share(KEY)


def test_end_of_a_table_is_reused_before_its_beginning() -> None:
    pool = BlockPool(3, 4)
    table = pool.allocate(3) or []
    pool.free(table)
    assert pool.allocate(1) == [table[2]]


def test_block_of_no_further_use_is_reused_before_all_others() -> None:
    pool = BlockPool(3, 4)
    first, second = pool.allocate(2) or []
    pool.free([first])
    pool.free([second], reuse_first=True)
    assert pool.allocate(3) == [second, 2, first]


def test_hashes_depend_on_salt_tokens_and_everything_before() -> None:
    root = root_hash("")
    assert block_hash(root, [1, 2]) != block_hash(root, [2, 1])
    assert block_hash(root, [1]) != block_hash(root_hash("x"), [1])
    assert block_hash(block_hash(root, [1]), [3]) != block_hash(block_hash(root, [2]), [3])


def test_same_prefix_of_two_groups_is_two_blocks() -> None:
    pool = BlockPool(2, 4)
    first, second = pool.allocate(2) or []
    pool.remember(first, (0, b"h"))
    pool.remember(second, (1, b"h"))
    assert (pool.share((0, b"h")), pool.share((1, b"h"))) == (first, second)
    pool.forget((0, b"h"))
    pool.forget((0, b"h"))
    assert not pool.holds((0, b"h")) and pool.holds((1, b"h"))
