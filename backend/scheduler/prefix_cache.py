"""Finds prompts' beginnings among the KV blocks that were computed before.

A full block is known by the hash of its tokens and of everything before them. Knows sequences and
the pool; called only by the scheduler.
"""

from backend.scheduler.block_pool import BlockPool, block_hash, root_hash
from backend.scheduler.sequence import Sequence


class PrefixCache:
    """Hashes blocks, and shares those that hold the same prefix."""

    def __init__(self, pool: BlockPool, *, enabled: bool) -> None:
        self._pool = pool
        self._enabled = enabled

    def serves(self, seq: Sequence) -> bool:
        """Whether a sequence may begin with cached blocks."""
        return self._enabled and seq.params.prompt_logprobs is None

    def match(self, seq: Sequence) -> list[int]:
        """Reference the cached blocks a sequence begins with.

        Its last token is always computed, for its logits; so is all of a prompt to be scored.
        """
        shared: list[int] = []
        if not self.serves(seq):
            return shared
        for i in range((seq.num_tokens - 1) // self._pool.block_size):
            block = self._pool.share(self._hash(seq, i))
            if block is None:
                break
            shared.append(block)
        return shared

    def remember(self, seq: Sequence, num_before: int) -> None:
        """Note the blocks filled since num_before tokens were computed."""
        size = self._pool.block_size
        if not self._enabled or num_before // size == seq.num_computed_tokens // size:
            return
        for i in range(num_before // size, seq.num_computed_tokens // size):
            self._pool.remember(seq.block_table[i], self._hash(seq, i))

    def _hash(self, seq: Sequence, index: int) -> bytes:
        """The hash of a sequence's full block `index`, with all before it."""
        size = self._pool.block_size
        while len(seq.block_hashes) <= index:
            i = len(seq.block_hashes)
            parent = seq.block_hashes[-1] if i else root_hash(seq.cache_salt)
            tokens = seq.token_ids[i * size : (i + 1) * size]
            seq.block_hashes.append(block_hash(parent, tokens))
        return seq.block_hashes[index]
