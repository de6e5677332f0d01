"""One or two rows by a weight in planes: no tensor cores, each weight is used as it comes.

A program has some features and a piece of the columns; a thread has whole words, and sums what
their values and its row's give before one multiplication by the scale. Nothing is rounded on the
way. Pieces of columns are summed by a second kernel in their order, so sums are the same each time.
"""

import triton
import triton.language as tl

from backend.linear.triton.decode import decode, load_high, load_min, load_scale, load_words

MAX_ROWS = 2
# Features of a program and words of a step: 64 words are 512 columns of 4 bits.
FEATURES, STEP_WORDS = 16, 64


@triton.jit
def multiply_few_rows(
    x,
    data,
    bias,
    out,
    table,
    x_stride,
    out_stride,
    part_stride,
    n,
    k,
    high_at,
    scales_at,
    mins_at,
    supers_at,
    span,
    piece_groups,
    ROWS: tl.constexpr,
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
):
    """out[row] = x[row] W^T, or that of a piece of the columns, in float32, at its own place.

    piece_groups: groups of 32 columns of a piece. Grid: (features, pieces).
    """
    features = tl.program_id(0) * FEATURES + tl.arange(0, FEATURES)
    first_group = tl.program_id(1) * piece_groups
    end_group = tl.minimum(first_group + piece_groups, k // 32)
    # Two halves of a group may have a scale each: values 0 to 3 of its words, and 4 to 7.
    PARTS: tl.constexpr = 2 if SCALES == "k_halves" else 1
    is_feature = features < n
    places = tl.arange(0, STEP_WORDS)
    words_of = places % WORDS
    first = tl.zeros([FEATURES, STEP_WORDS], tl.float32)
    second = tl.zeros([FEATURES, STEP_WORDS], tl.float32)
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
        for part in tl.static_range(PARTS):
            scale = UNIT * load_scale(
                data,
                scales_at,
                supers_at,
                tile_groups,
                tile_features,
                is_inside,
                n,
                span,
                part,
                SCALES,
            )
            sums = tl.zeros([FEATURES, STEP_WORDS], tl.float32)
            total = tl.zeros([STEP_WORDS], tl.float32)
            more_sums = tl.zeros([FEATURES, STEP_WORDS], tl.float32)
            more_total = tl.zeros([STEP_WORDS], tl.float32)
            for j in tl.static_range(32 // WORDS // PARTS):
                value = decode(words, high, table, 4 * part + j, VALUES)
                given = tl.load(x + columns + (4 * part + j) * WORDS, mask=is_group, other=0.0).to(
                    tl.float32
                )
                sums += value * given[None, :]
                total += given
                if ROWS == 2:
                    given = tl.load(
                        x + x_stride + columns + (4 * part + j) * WORDS, mask=is_group, other=0.0
                    )
                    given = given.to(tl.float32)
                    more_sums += value * given[None, :]
                    more_total += given
            first += scale * (sums - ZERO * total[None, :])
            if ROWS == 2:
                second += scale * (more_sums - ZERO * more_total[None, :])
            if HAS_MINS:
                minimum = load_min(
                    data, mins_at, supers_at, tile_groups, tile_features, is_inside, n, span, SCALES
                )
                first += minimum * total[None, :]
                if ROWS == 2:
                    second += minimum * more_total[None, :]
    result = tl.sum(first, 1)
    more = tl.sum(second, 1)
    if HAS_BIAS:
        added = tl.load(bias + features, mask=is_feature, other=0.0).to(tl.float32)
        result += added
        more += added
    target = out + tl.program_id(1).to(tl.int64) * part_stride + features
    tl.store(target, result.to(out.dtype.element_ty), mask=is_feature)
    if ROWS == 2:
        tl.store(target + out_stride, more.to(out.dtype.element_ty), mask=is_feature)


@triton.jit
def add_pieces(
    pieces,
    bias,
    out,
    out_stride,
    n,
    num_pieces,
    part_stride,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[row] = the sum of the row's pieces, in their order, and the bias. Grid: (rows, n)."""
    row = tl.program_id(0)
    features = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_feature = features < n
    total = tl.zeros([BLOCK], tl.float32)
    place = pieces + row.to(tl.int64) * n + features
    for piece in range(num_pieces):
        total += tl.load(place + piece * part_stride, mask=is_feature, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + features, mask=is_feature, other=0.0).to(tl.float32)
    target = out + row.to(tl.int64) * out_stride + features
    tl.store(target, total.to(out.dtype.element_ty), mask=is_feature)
