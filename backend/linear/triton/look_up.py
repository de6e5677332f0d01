"""Rows of a weight in planes, for an embedding that is kept in the file's bits."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.linear.triton.decode import (
    constants_of,
    decode,
    load_factors,
    load_high,
    load_words,
    places_args,
)
from backend.linear.triton.repack import PackedPlanes
from backend.quant.planes import PlaneFormat

STEP_WORDS = 128


def look_up(packed: PackedPlanes, planes: PlaneFormat, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows of a weight, [T] -> [T, K] in a dtype."""
    ids = ids.contiguous()
    out = torch.empty(len(ids), packed.width, dtype=dtype, device=ids.device)
    constants = constants_of(planes)
    del constants["WIDE"]
    steps = triton.cdiv(packed.width // 32 * (planes.value_bytes // 4), STEP_WORDS)
    if out.numel():
        _look_up[(len(ids), steps)](
            packed.data, ids, out, **places_args(packed), **constants, STEP_WORDS=STEP_WORDS
        )
    return out


@triton.jit(do_not_specialize_on_alignment=["ids"])
def _look_up(
    data,
    ids,
    out,
    table,
    n,
    k,
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
    STEP_WORDS: tl.constexpr,
):
    # Two halves of a group may have a scale each: values 0 to 3 of its words, and 4 to 7.
    PARTS: tl.constexpr = 2 if SCALES == "k_halves" else 1
    token = tl.program_id(0)
    feature = tl.load(ids + token).to(tl.int32)
    places = tl.program_id(1) * STEP_WORDS + tl.arange(0, STEP_WORDS)
    groups, words_of = places // WORDS, places % WORDS
    is_inside = groups < k // 32
    words = load_words(data, groups, words_of, feature, is_inside, n, WORDS)
    high = load_high(data, high_at, groups, words_of, feature, is_inside, n, VALUES)
    target = out + token.to(tl.int64) * k + groups * 32 + words_of
    for part in tl.static_range(PARTS):
        scale, added = load_factors(
            data,
            scales_at,
            mins_at,
            supers_at,
            groups,
            feature,
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
            value = scale * decode(words, high, table, 4 * part + j, VALUES) + added
            tl.store(
                target + (4 * part + j) * WORDS, value.to(out.dtype.element_ty), mask=is_inside
            )
