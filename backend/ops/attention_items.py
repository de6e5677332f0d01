"""How a step's attention is cut into items for the kernels in C; see backend/native/attention.h."""

import numpy as np
from numpy.typing import NDArray

from backend.native import calls
from backend.ops.batch import Batch

# An item has so many rows, tokens x query heads of a KV head, and so many sums, rows x head size,
# at most: a core's caches hold them.
MAX_ROWS = 96
MAX_SUMS = 96 * 256
# Contexts are attended to in pieces of so many keys, in blocks of so many; see native/attention.h.
# Where a sequence runs one token its pieces are shared out over threads.
SPLIT_KEYS = 1024
BLOCK_KEYS = 64
# From so many keys x tokens on a second thread pays for being woken.
PARALLEL_SIZE = 512

ITEM = calls.record("AttentionItem")
MERGE = calls.record("AttentionMerge")
_NO_MERGES = np.empty(0, MERGE)

Ints = NDArray[np.int32]
Records = NDArray[np.void]


def most_rows(head_dim: int) -> int:
    """Return how many rows, tokens x query heads, an item has at most."""
    return min(MAX_ROWS, MAX_SUMS // head_dim)


def share_out(batch: Batch, tokens: int, window: int) -> tuple[Records, Records, int]:
    """Cut the step's attention into items [n] and merges [m]; see attention.h. Returns its work as
    well, keys x tokens.

    tokens: of a sequence that an item has at most. The longest come first, so that no thread is
    left with one when the others are done.
    """
    if batch.num_decodes == len(batch.context_lens) and max(batch.context_lens) <= SPLIT_KEYS:
        return _share_out_short_decodes(batch.context_lens, window)
    tiles: list[tuple[int, ...]] = []
    for s in range(batch.num_decodes, len(batch.context_lens)):
        start, end = batch.query_starts[s : s + 2]
        behind = batch.context_lens[s] - end
        for first in range(start, end, tokens):
            last = min(first + tokens, end)
            position = first + behind
            seen = _first_key(position + 1, window)
            tiles.append((s, first, last - first, position, seen, last + behind, -1))
    tiles.sort(key=lambda tile: -tile[2] * (tile[5] - tile[4]))
    decodes, merges = _share_out_decodes(batch, window)
    items = np.concatenate([np.array(tiles, ITEM), decodes])
    work = int(((items["end_key"] - items["first_key"]) * items["count"]).sum())
    return items, merges, work


def _first_key(length: int, window: int) -> int:
    """Return where the keys begin that the last of so many tokens sees, at a block's start."""
    return max(0, length - window) // BLOCK_KEYS * BLOCK_KEYS if window else 0


def _share_out_short_decodes(lens: list[int], window: int) -> tuple[Records, Records, int]:
    """Cut the attention of single tokens whose keys are one piece each. Most steps are such, and
    ten arrays of a few numbers take longer than a list."""
    items = [
        (s, s, 1, length - 1, _first_key(length, window), length, -1)
        for s, length in enumerate(lens)
    ]
    work = sum(item[5] - item[4] for item in items)
    return np.array(items, ITEM), _NO_MERGES, work


def _share_out_decodes(batch: Batch, window: int) -> tuple[Records, Records]:
    """Cut the attention of sequences that run one token."""
    lens: Ints = np.array(batch.context_lens[: batch.num_decodes], np.int32)
    seen = np.maximum(0, lens - window) // BLOCK_KEYS * BLOCK_KEYS if window else 0 * lens
    num_parts = -(-lens // SPLIT_KEYS) - seen // SPLIT_KEYS
    rows = np.repeat(np.arange(len(lens), dtype=np.int32), num_parts)
    parts = np.arange(len(rows), dtype=np.int32) + np.repeat(
        seen // SPLIT_KEYS - np.cumsum(num_parts) + num_parts, num_parts
    )
    split = num_parts > 1
    items = np.empty(len(rows), ITEM)
    items["sequence"] = items["token"] = rows
    items["count"] = 1
    items["position"] = lens[rows] - 1
    items["first_key"] = np.maximum(parts * SPLIT_KEYS, seen[rows])
    items["end_key"] = np.minimum((parts + 1) * SPLIT_KEYS, lens[rows])
    items["partial"] = np.where(split[rows], np.cumsum(split[rows]) - 1, -1)
    merged = np.flatnonzero(split)
    merges = np.empty(len(merged), MERGE)
    merges["token"] = merged
    merges["count"] = counts = num_parts[merged]
    merges["partial"] = np.cumsum(counts) - counts
    return items, merges
