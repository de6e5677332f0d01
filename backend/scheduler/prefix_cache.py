"""Finds prompts' beginnings among the KV blocks that were computed before.

A full block is known by its cache group and the hash of its tokens and of everything before them.
A prefix is cached if every group has the blocks that the token after it sees: all of them, or those
in a window; and, where layers keep states, a snapshot of these is left. Knows sequences, groups and
the pools; called only by the scheduler.
"""

from collections.abc import Sequence as ListLike
from typing import NamedTuple

from backend.config.cache_groups import FULL_GROUPS, CacheGroup
from backend.scheduler.block_pool import BlockPool, block_hash, root_hash
from backend.scheduler.sequence import Sequence
from backend.scheduler.state_slots import StateSlots


class CachedPrefix(NamedTuple):
    """The first num_blocks blocks of a sequence, as far as they are needed.

    tables: of each group, the blocks that it shares: its last ones.
    """

    num_blocks: int
    tables: list[list[int]]


class PrefixCache:
    """Hashes blocks, and shares those that hold the same prefix."""

    def __init__(
        self,
        pool: BlockPool,
        *,
        enabled: bool,
        groups: ListLike[CacheGroup] = FULL_GROUPS,
        states: StateSlots | None = None,
    ) -> None:
        """states: of layers that keep states; a prefix is cached as far as a snapshot goes then."""
        self._pool = pool
        self._states = states
        self._enabled = enabled and (bool(groups) or states is not None)
        self._groups = groups
        self._full = [g for g, group in enumerate(groups) if not group.window]
        self._windowed = [(g, group) for g, group in enumerate(groups) if group.window]

    def serves(self, seq: Sequence) -> bool:
        """Whether a sequence may begin with cached blocks.

        What a decoder computes depends on its encoder, of which the hashes know nothing.
        """
        return self._enabled and seq.params.prompt_logprobs is None and not seq.encoder_ids

    def match(self, seq: Sequence) -> CachedPrefix:
        """Reference the cached blocks a sequence begins with.

        Its last token is always computed, for its logits; so is all of a prompt to be scored.
        """
        num_blocks, size = 0, self._pool.block_size
        if self.serves(seq):
            num_blocks = self._cached_in_full(seq, (seq.num_tokens - 1) // size)
            if self._windowed:
                num_blocks = self._cached_in_windows(seq, num_blocks)
            if self._states:
                seq.num_matched_blocks = num_blocks
                num_blocks = self._with_a_snapshot(seq, num_blocks, self._states)
        if not num_blocks:
            return CachedPrefix(0, [[] for _ in self._groups])
        hashes, share, tables = seq.block_hashes, self._pool.share, []
        for g, group in enumerate(self._groups):
            first = group.first_block(num_blocks * size, size)
            tables.append([share((g, prefix)) for prefix in hashes[first:num_blocks]])
        return CachedPrefix(num_blocks, tables)

    def remember(self, seq: Sequence, num_before: int) -> None:
        """Note the blocks filled since num_before tokens were computed. The sequence has them."""
        size = self._pool.block_size
        if not self._enabled or num_before // size == seq.num_computed_tokens // size:
            return
        if seq.encoder_ids:
            return
        for i in range(num_before // size, seq.num_computed_tokens // size):
            prefix = self._hash(seq, i)
            for g, table in enumerate(seq.block_tables):
                self._pool.remember(table[i - seq.num_blocks], (g, prefix))
        if self._states and seq.num_computed_tokens % size == 0:
            self._states.keep(seq, prefix)

    def forget(self, seq: Sequence) -> None:
        """Share what a sequence has computed with nobody new, also what it has given back."""
        for prefix in seq.block_hashes:
            for g in range(len(self._groups)):
                self._pool.forget((g, prefix))
        if self._states:
            self._states.forget(seq.block_hashes)

    def snapshots_amid(self, seq: Sequence) -> list[tuple[int, bytes]]:
        """Return behind which blocks amid the step at hand a sequence's states are to be kept."""
        if not self._enabled or self._states is None:
            return []
        return [(block, self._hash(seq, block - 1)) for block in self._states.borders(seq)]

    def hash_of(self, seq: Sequence, num_blocks: int) -> bytes | None:
        """Return the hash of a sequence's first blocks; None for none."""
        return self._hash(seq, num_blocks - 1) if num_blocks else None

    def _cached_in_full(self, seq: Sequence, most: int) -> int:
        """Return how many blocks, of `most`, the groups that keep all of them have cached."""
        if not self._full:
            return most
        for i in range(most):
            prefix = self._hash(seq, i)
            for g in self._full:
                if not self._pool.holds((g, prefix)):
                    return i
        return most

    def _cached_in_windows(self, seq: Sequence, most: int) -> int:
        """Return the longest prefix, of `most` blocks, that ends in a full window in each group.

        A block that is missing in a window's way rules out all ends from it to where the window
        leaves it behind: the search goes on before it. Each group's blocks are looked at once.
        """
        size = self._pool.block_size
        if most:
            self._hash(seq, most - 1)
        hashes, num_blocks = seq.block_hashes, most
        checked = [most] * len(self._windowed)  # from there on all blocks are cached
        is_settled = False
        while not is_settled:
            is_settled = True
            for n, (g, group) in enumerate(self._windowed):
                first = group.first_block(num_blocks * size, size)
                i = min(checked[n], num_blocks)
                while i > first and self._pool.holds((g, hashes[i - 1])):
                    i -= 1
                checked[n] = i
                if i > first:
                    num_blocks = i - 1
                    is_settled = False
        return num_blocks

    def _with_a_snapshot(self, seq: Sequence, most: int, states: StateSlots) -> int:
        """Return the longest prefix, of `most` blocks, whose states are kept, and whose windows
        are cached as well."""
        num_blocks = most
        while num_blocks:
            if not states.holds(self._hash(seq, num_blocks - 1)):
                num_blocks -= 1
            elif (in_windows := self._cached_in_windows(seq, num_blocks)) < num_blocks:
                num_blocks = in_windows
            else:
                break
        return num_blocks

    def _hash(self, seq: Sequence, index: int) -> bytes:
        """The hash of a sequence's full block `index`, with all before it."""
        size = self._pool.block_size
        while len(seq.block_hashes) <= index:
            i = len(seq.block_hashes)
            parent = seq.block_hashes[-1] if i else root_hash(seq.cache_salt)
            tokens = seq.token_ids[i * size : (i + 1) * size]
            seq.block_hashes.append(block_hash(parent, tokens))
        return seq.block_hashes[index]
