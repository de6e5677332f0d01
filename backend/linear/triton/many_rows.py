"""Rows by a weight in planes on tensor cores, from three rows up, and groups of rows by several.

A tile of weights is decoded in registers, rounded to the dtype of the activations (which is what a
dense weight would have been) and multiplied by a tile of rows turned on its side: the features are
what a tensor core calls rows, of which it wants 64, while 16 of ours suffice.
"""

import triton
import triton.language as tl

from backend.linear.triton.decode import decode, load_factors, load_high, load_words

# Features of a tile.
FEATURES = 64
# Rows of a tile, at least and at most.
MIN_ROWS, MAX_ROWS = 16, 64


def tile_rows(num_rows: int) -> int:
    """Return how many rows a tile has, for so many in all."""
    return int(min(MAX_ROWS, max(MIN_ROWS, triton.next_power_of_2(num_rows))))


def step_words(rows: int) -> int:
    """Return words of a step, by the rows of a tile: 32 words are 256 columns of 4 bits.

    As many of 64 rows, in three stages, would not fit in 99 KiB of shared memory.
    """
    return 32 if rows == MIN_ROWS else 16


@triton.jit
def _tile(
    x,
    rows,
    is_row,
    data,
    features,
    is_feature,
    table,
    x_stride,
    n,
    first_group,
    end_group,
    high_at,
    scales_at,
    mins_at,
    supers_at,
    span,
    VALUES: tl.constexpr,
    SCALES: tl.constexpr,
    HAS_MINS: tl.constexpr,
    WORDS: tl.constexpr,
    UNIT: tl.constexpr,
    ZERO: tl.constexpr,
    WIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    STEP_WORDS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """W x^T of some features, rows and columns, float32 [FEATURES, ROWS]."""
    # Two halves of a group may have a scale each: values 0 to 3 of its words, and 4 to 7.
    PARTS: tl.constexpr = 2 if SCALES == "k_halves" else 1
    places = tl.arange(0, STEP_WORDS)
    words_of = places % WORDS
    row_starts = x + rows.to(tl.int64) * x_stride
    sums = tl.zeros([FEATURES, ROWS], tl.float32)
    for group in range(first_group, end_group, STEP_WORDS // WORDS):
        groups = group + places // WORDS
        is_group = groups < end_group
        is_inside = is_feature[:, None] & is_group[None, :]
        tile_groups, tile_words = groups[None, :], words_of[None, :]
        tile_features = features[:, None]
        words = load_words(data, tile_groups, tile_words, tile_features, is_inside, n, WORDS)
        high = load_high(
            data, high_at, tile_groups, tile_words, tile_features, is_inside, n, VALUES
        )
        columns = groups * 32 + words_of
        is_given = is_group[:, None] & is_row[None, :]
        for part in tl.static_range(PARTS):
            scale, added = load_factors(
                data,
                scales_at,
                mins_at,
                supers_at,
                tile_groups,
                tile_features,
                is_inside,
                n,
                span,
                part,
                SCALES,
                HAS_MINS,
                UNIT,
                ZERO,
            )
            for j in tl.static_range(32 // WORDS // PARTS):
                weights = scale * decode(words, high, table, 4 * part + j, VALUES) + added
                places_x = row_starts[None, :] + (columns + (4 * part + j) * WORDS)[:, None]
                given = tl.load(places_x, mask=is_given, other=0.0)
                weights = weights.to(given.dtype)
                if WIDE:
                    weights, given = weights.to(tl.float32), given.to(tl.float32)
                sums = tl.dot(weights, given, sums, input_precision="ieee")
    return sums


@triton.jit(do_not_specialize=["num_rows"])
def multiply_many_rows(
    x,
    data,
    bias,
    out,
    table,
    x_stride,
    out_stride,
    part_stride,
    num_rows,
    n,
    k,
    high_at,
    scales_at,
    mins_at,
    supers_at,
    span,
    piece_groups,
    HAS_BIAS: tl.constexpr,
    VALUES: tl.constexpr,
    SCALES: tl.constexpr,
    HAS_MINS: tl.constexpr,
    WORDS: tl.constexpr,
    UNIT: tl.constexpr,
    ZERO: tl.constexpr,
    WIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    STEP_WORDS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """out = x W^T, or that of a piece of the columns, in float32, at its own place.

    Grid: (tiles of rows, tiles of features, pieces): neighbours read the same weights.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    features = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    first_group = tl.program_id(2) * piece_groups
    is_row, is_feature = rows < num_rows, features < n
    sums = _tile(
        x,
        rows,
        is_row,
        data,
        features,
        is_feature,
        table,
        x_stride,
        n,
        first_group,
        tl.minimum(first_group + piece_groups, k // 32),
        high_at,
        scales_at,
        mins_at,
        supers_at,
        span,
        VALUES,
        SCALES,
        HAS_MINS,
        WORDS,
        UNIT,
        ZERO,
        WIDE,
        FEATURES,
        STEP_WORDS,
        ROWS,
    )
    if HAS_BIAS:
        sums += tl.load(bias + features, mask=is_feature, other=0.0).to(tl.float32)[:, None]
    target = out + tl.program_id(2).to(tl.int64) * part_stride
    target += rows[None, :].to(tl.int64) * out_stride + features[:, None]
    tl.store(target, sums.to(out.dtype.element_ty), mask=is_feature[:, None] & is_row[None, :])


@triton.jit
def find_tile(tile, ends, num_groups, ROWS: tl.constexpr, GROUPS: tl.constexpr):
    """Return whose a tile of rows is, its first row, and where the rows of its group end.

    ends: [G]. Each group has tiles of its own; of a tile behind the last the group is num_groups.
    """
    numbers = tl.arange(0, GROUPS)
    is_own = numbers < num_groups
    stops = tl.load(ends + numbers, mask=is_own, other=0).to(tl.int32)
    starts = tl.load(ends + numbers - 1, mask=is_own & (numbers > 0), other=0).to(tl.int32)
    counts = tl.where(is_own, (stops - starts + ROWS - 1) // ROWS, 0)
    last_tiles = tl.cumsum(counts, 0)
    group = tl.sum((last_tiles <= tile).to(tl.int32), 0)
    is_it = numbers == group
    before = tl.sum(tl.where(is_it, last_tiles - counts, 0), 0)
    start = tl.sum(tl.where(is_it, starts, 0), 0)
    stop = tl.sum(tl.where(is_it, stops, 0), 0)
    return group, start + (tile - before) * ROWS, stop


@triton.jit
def multiply_groups(
    x,
    weights,
    biases,
    ends,
    out,
    table,
    x_stride,
    out_stride,
    num_groups,
    n,
    k,
    high_at,
    scales_at,
    mins_at,
    supers_at,
    span,
    HAS_BIAS: tl.constexpr,
    VALUES: tl.constexpr,
    SCALES: tl.constexpr,
    HAS_MINS: tl.constexpr,
    WORDS: tl.constexpr,
    UNIT: tl.constexpr,
    ZERO: tl.constexpr,
    WIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    STEP_WORDS: tl.constexpr,
    ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Groups of rows, each by its own weight. weights: [G], addresses; biases: [G, N]; ends: [G].

    Grid: (tiles of rows, tiles of features). Which tile is whose the programs find out from the
    ends: there are as many tiles as there may be at most, and those left over return.
    """
    group, first_row, stop = find_tile(tl.program_id(0), ends, num_groups, ROWS, GROUPS)
    if group < num_groups:
        rows = first_row + tl.arange(0, ROWS)
        features = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
        is_row, is_feature = rows < stop, features < n
        data = tl.multiple_of(tl.load(weights + group).to(tl.pointer_type(tl.uint8)), 16)
        sums = _tile(
            x,
            rows,
            is_row,
            data,
            features,
            is_feature,
            table,
            x_stride,
            n,
            0,
            k // 32,
            high_at,
            scales_at,
            mins_at,
            supers_at,
            span,
            VALUES,
            SCALES,
            HAS_MINS,
            WORDS,
            UNIT,
            ZERO,
            WIDE,
            FEATURES,
            STEP_WORDS,
            ROWS,
        )
        if HAS_BIAS:
            added = tl.load(biases + group * n + features, mask=is_feature, other=0.0)
            sums += added.to(tl.float32)[:, None]
        target = out + rows[None, :].to(tl.int64) * out_stride + features[:, None]
        tl.store(target, sums.to(out.dtype.element_ty), mask=is_feature[:, None] & is_row[None, :])
