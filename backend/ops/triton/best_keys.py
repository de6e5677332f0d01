"""The largest logits of rows, in order: keys that sort as logits do, and the best of many.

A key has a logit's bits above and its token below, so no two are equal: what is selected is exact,
and among equal logits the lowest token comes first. Rows are cut into pieces, whose best are merged
by a network of comparisons (Shanbhag et al. 2018, bitonic top-k) until one list a row is left.
"""

import triton
import triton.language as tl
from torch import Tensor

# What stands where a row has fewer tokens: the least key of all.
NO_KEY: tl.constexpr = tl.constexpr(-(2**63))
# The combination that tl.sum has; by its name each step would be one more call to interpret.
_add = tl.standard._sum_combine
# Keys that a program merges.
MERGED_KEYS = 4096


def merge(keys: Tensor) -> Tensor:
    """Return the best K of the lists of each row, [N, K] in descending order.

    keys: [N, lists, K] int64, each list in descending order; K a power of two.
    """
    num_rows, num_lists, count = keys.shape
    at_once = max(2, MERGED_KEYS // count)
    while num_lists > 1:
        at_once = min(at_once, triton.next_power_of_2(num_lists))
        num_merged = triton.cdiv(num_lists, at_once)
        merged = keys.new_empty(num_rows, num_merged, count)
        _merge[(num_rows, num_merged)](
            keys,
            merged,
            num_lists,
            LOG_COUNT=count.bit_length() - 1,
            LOG_LISTS=at_once.bit_length() - 1,
            num_warps=8,
        )
        keys, num_lists = merged, num_merged
    return keys[:, 0]


@triton.jit
def key_of(logits, tokens):
    """Return the keys of float32 logits that are numbers, int64. tokens: int32."""
    bits = tl.where(logits == 0.0, 0.0, logits).to(tl.int32, bitcast=True)  # no negative zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - tokens).to(tl.int64)


@triton.jit
def logit_of(keys):
    """Return the logits of keys; of NO_KEY it is none."""
    ordered = (keys >> 32).to(tl.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def token_of(keys):
    return 0x7FFFFFFF - (keys & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def best(keys, LOG_SIZE: tl.constexpr, LOG_COUNT: tl.constexpr):
    """Return the best 2^LOG_COUNT of 2^LOG_SIZE keys, in descending order.

    First runs of 2^LOG_COUNT are sorted, which go up and down in turn. Of two such runs the larger
    at each place are the best of both, and need one more merge: until one run is left.
    """
    cube = tl.reshape(keys, [2] * LOG_SIZE)
    for stage in tl.static_range(1, LOG_COUNT + 1):
        cube = _merge_runs(cube, stage, LOG_SIZE)
    for size in tl.static_range(LOG_SIZE - 1, LOG_COUNT - 1, -1):
        cube = _merge_runs(tl.max(cube, axis=size - LOG_COUNT), LOG_COUNT, size)
    return tl.reshape(cube, [2**LOG_COUNT])


@triton.jit
def _merge_runs(cube, STAGE: tl.constexpr, LOG_SIZE: tl.constexpr):
    """Sort runs of 2^STAGE keys that go up and then down; of all keys down alone."""
    if STAGE == LOG_SIZE:
        goes_down = 1
    else:
        goes_down = tl.reshape(tl.arange(0, 2), [1] * (LOG_SIZE - STAGE - 1) + [2] + [1] * STAGE)
    for axis in tl.static_range(LOG_SIZE - STAGE, LOG_SIZE):
        # Both of a pair less oneself: integers wrap, so this is exactly the other.
        other = tl.reduce(cube, axis, _add, keep_dims=True) - cube
        is_second = tl.reshape(tl.arange(0, 2), [1] * axis + [2] + [1] * (LOG_SIZE - axis - 1))
        cube = tl.where((cube > other) != ((goes_down ^ is_second) != 0), other, cube)
    return cube


@triton.jit
def _merge(keys, merged, num_lists, LOG_COUNT: tl.constexpr, LOG_LISTS: tl.constexpr):
    row, group, num_groups = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    COUNT: tl.constexpr = 2**LOG_COUNT
    SIZE: tl.constexpr = 2 ** (LOG_COUNT + LOG_LISTS)
    places = tl.arange(0, SIZE)
    first = group * 2**LOG_LISTS
    inside = first + places // COUNT < num_lists
    read = tl.load(keys + (row * num_lists + first) * COUNT + places, mask=inside, other=NO_KEY)
    found = best(read, LOG_COUNT + LOG_LISTS, LOG_COUNT)
    tl.store(merged + (row * num_groups + group) * COUNT + tl.arange(0, COUNT), found)
