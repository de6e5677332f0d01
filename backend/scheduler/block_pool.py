"""KV blocks: allocate, share by prefix hash, free.

A block is free or referenced by one or more sequences. A free block keeps its content and its hash
until it is allocated again, least recently freed first: that is the prefix cache. Any block serves
any cache group: what a block holds is known by the group and the hash of the prefix.
Knows block numbers and hashes, never tensors. Called only by the scheduler.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

BlockKey = tuple[int, bytes]
"""What a full block holds: (cache group, hash of its tokens and of all before them)."""


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens each."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._references = [0] * num_blocks
        self._key_of: list[BlockKey | None] = [None] * num_blocks
        self._block_of: dict[BlockKey, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self.num_evictions = 0  # blocks overwritten whose content was known

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_known(self) -> int:
        """Blocks that can be shared, by whoever has the same content."""
        return len(self._block_of)

    def allocate(self, count: int) -> list[int] | None:
        """Take `count` free blocks, forgetting what they cached; None, unchanged, if too few."""
        if count > len(self._free):
            return None
        blocks = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
            key = self._key_of[block]
            if key is not None:
                self.num_evictions += 1
                self.forget(key)
        return blocks

    def holds(self, key: BlockKey) -> bool:
        """Whether a block with that content is there to be shared."""
        return key in self._block_of

    def share(self, key: BlockKey) -> int:
        """Reference the block that holds this. Raises KeyError if none does."""
        block = self._block_of[key]
        if self._references[block] == 0:
            del self._free[block]
        self._references[block] += 1
        return block

    def free(self, blocks: Sequence[int], *, reuse_first: bool = False) -> None:
        """Give back one reference to each block of a table.

        The end of a table is reused before its beginning: a prefix without its tail is still of
        use, a tail without its prefix is not. reuse_first: before all that are free already.
        """
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                self._free[block] = None
                if reuse_first:
                    self._free.move_to_end(block, last=False)

    def remember(self, block: int, key: BlockKey) -> None:
        """Note what a full block holds. The first block to say so is the one shared."""
        if key not in self._block_of:
            before = self._key_of[block]
            if before is not None:
                self.forget(before)
            self._key_of[block] = key
            self._block_of[key] = block

    def forget(self, key: BlockKey) -> None:
        """Share the block that holds this, if there is one, with nobody new."""
        block = self._block_of.pop(key, None)
        if block is not None:
            self._key_of[block] = None

    def is_known(self, block: int) -> bool:
        """Whether it is known what a block holds."""
        return self._key_of[block] is not None

    def reuse_first(self, key: BlockKey) -> None:
        """Overwrite the block that holds this before all that are free, if it is free itself."""
        block = self._block_of.get(key)
        if block is not None and block in self._free:
            self._free.move_to_end(block, last=False)

    def check(self, tables: Iterable[Sequence[int]]) -> None:
        """Assert that references are exactly those of `tables` and everything else is free."""
        counted = [0] * self.num_blocks
        for table in tables:
            for block in table:
                counted[block] += 1
        assert counted == self._references, "references differ from the sequences' tables"
        assert set(self._free) == {b for b, n in enumerate(counted) if n == 0}, "free list is off"
        assert all(self._key_of[b] == key for key, b in self._block_of.items()), "keys are off"


def block_hash(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """Chain the hash of one full block to that of the blocks before it.

    SHA-256, because a collision would show one caller another's context; `parent` of the first
    block is the hash of the cache salt.
    """
    return hashlib.sha256(parent + array("i", token_ids).tobytes()).digest()


def root_hash(cache_salt: str) -> bytes:
    """The parent of a first block: callers with different salts share nothing."""
    return hashlib.sha256(cache_salt.encode()).digest()
