"""KV blocks: allocate, share by prefix hash, free.

A block is free or referenced by one or more sequences. A free block keeps its content and its hash
until it is allocated again, least recently freed first: that is the prefix cache.
Knows block numbers and hashes, never tensors. Called only by the scheduler.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens each."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._references = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def allocate(self, count: int) -> list[int] | None:
        """Take `count` free blocks, forgetting what they cached; None, unchanged, if too few."""
        if count > len(self._free):
            return None
        blocks = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
            self._forget(block)
        return blocks

    def share(self, block_hash: bytes) -> int | None:
        """Reference the block that holds this prefix; None when no block does."""
        block = self._block_of.get(block_hash)
        if block is None:
            return None
        if self._references[block] == 0:
            del self._free[block]
        self._references[block] += 1
        return block

    def free(self, blocks: Sequence[int]) -> None:
        """Give back one reference to each block of a table.

        The end of a table is reused before its beginning: a prefix without its tail is still of
        use, a tail without its prefix is not.
        """
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None

    def remember(self, block: int, block_hash: bytes) -> None:
        """Note that a full block holds this prefix. The first block to say so is the one shared."""
        if block_hash not in self._block_of:
            self._forget(block)
            self._hash_of[block] = block_hash
            self._block_of[block_hash] = block

    def forget(self, blocks: Iterable[int]) -> None:
        """Share these blocks with nobody new."""
        for block in blocks:
            self._forget(block)

    def _forget(self, block: int) -> None:
        block_hash = self._hash_of[block]
        if block_hash is not None:
            self._hash_of[block] = None
            del self._block_of[block_hash]

    def check(self, tables: Iterable[Sequence[int]]) -> None:
        """Assert that references are exactly those of `tables` and everything else is free."""
        counted = [0] * self.num_blocks
        for table in tables:
            for block in table:
                counted[block] += 1
        assert counted == self._references, "references differ from the sequences' tables"
        assert set(self._free) == {b for b, n in enumerate(counted) if n == 0}, "free list is off"
        assert all(self._hash_of[b] == h for h, b in self._block_of.items()), "hash map is off"


def block_hash(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """Chain the hash of one full block to that of the blocks before it.

    SHA-256, because a collision would show one caller another's context; `parent` of the first
    block is the hash of the cache salt.
    """
    return hashlib.sha256(parent + array("i", token_ids).tobytes()).digest()


def root_hash(cache_salt: str) -> bytes:
    """The parent of a first block: callers with different salts share nothing."""
    return hashlib.sha256(cache_salt.encode()).digest()
