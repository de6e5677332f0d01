"""What the kernels share: a tile of words out of planes becomes floats, factors are looked up.

An integer n of b bits is put in a float's mantissa, 1 + n / 2^b, by a shift and one mask, without a
conversion. Its scale is multiplied by 2^b, and 1 is subtracted with the zero point, in the sum or
in the same multiply-add. A float of 4 or 8 bits is put in the same places of a float32, whose
exponent is too low by 126 or 120 then, subnormals included. See quant/planes.py for where what
lies.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.linear.triton.repack import PackedPlanes
from backend.quant.planes import PlaneFormat

# The steps of IQ4_NL (kvalues_iq4nl of ggml).
_IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def constants_of(planes: PlaneFormat) -> dict[str, object]:
    """Return what every kernel is told of a format when it is compiled."""
    bits = int(planes.values[-1]) if planes.values.startswith("uint") else 0
    return {
        "VALUES": planes.values,
        "SCALES": planes.scales,
        "HAS_MINS": planes.has_mins,
        "WORDS": planes.value_bytes // 4,
        # w = scale * UNIT * (f - ZERO) + minimum, of f as decode() returns it.
        "UNIT": float(1 << bits),
        "ZERO": 1.0 + planes.zero / (1 << bits) if bits else 0.0,
        # The interpreter multiplies the bits of bfloat16 as if they were integers.
        "WIDE": triton.knobs.runtime.interpret,
    }


def places_args(packed: PackedPlanes) -> dict[str, object]:
    """Return what every kernel is told of a weight."""
    places = packed.places
    return {
        "table": iq4_nl_table(packed.data.device),
        "n": packed.num_features,
        "k": packed.width,
        "high_at": places.high,
        "scales_at": places.scales,
        "mins_at": places.mins,
        "supers_at": places.supers,
        "span": packed.span,
    }


@cache
def iq4_nl_table(device: torch.device) -> Tensor:
    """Return the steps of IQ4_NL on a device, float32 [16]."""
    return torch.tensor(_IQ4_NL, dtype=torch.float32, device=device)


@triton.jit
def load_words(data, groups, words, features, is_inside, n, WORDS: tl.constexpr):
    """Return words of groups and features: all of shapes that spread over each other."""
    place = (groups * n + features) * WORDS + words
    return tl.load(data.to(tl.pointer_type(tl.uint32)) + place, mask=is_inside, other=0)


@triton.jit
def load_high(data, high_at, groups, words, features, is_inside, n, VALUES: tl.constexpr):
    """Return what has the high bits of the values of words, the first value's lowest; nothing that
    counts where values have none."""
    high = (data + high_at).to(tl.pointer_type(tl.uint32))
    place = groups * n + features
    if VALUES == "uint6":
        bits = tl.load(high + place * 2 + words // 2, mask=is_inside, other=0)
        return bits >> (16 * (words % 2)).to(tl.uint32)
    elif VALUES == "uint5":
        bits = tl.load(high + place, mask=is_inside, other=0)
        return bits >> words.to(tl.uint32)
    else:
        return words


@triton.jit
def _moved(words, by: tl.constexpr):
    """Shift to the left, or to the right if by is below 0."""
    if by >= 0:
        return words << by
    else:
        return words >> -by


@triton.jit
def decode(words, high, table, j: tl.constexpr, VALUES: tl.constexpr):
    """Return value j of each word, float32: of integers 1 + n / 2^bits."""
    if VALUES == "uint4":
        bits = (_moved(words, 19 - 4 * j) & 0x00780000) | 0x3F800000
        return bits.to(tl.float32, bitcast=True)
    elif VALUES == "uint8":
        bits = (_moved(words, 15 - 8 * j) & 0x007F8000) | 0x3F800000
        return bits.to(tl.float32, bitcast=True)
    elif VALUES == "uint5":
        low = _moved(words, 18 - 4 * j) & 0x003C0000
        bits = low | (_moved(high, 22 - 4 * j) & 0x00400000) | 0x3F800000
        return bits.to(tl.float32, bitcast=True)
    elif VALUES == "uint6":
        low = _moved(words, 17 - 4 * j) & 0x001E0000
        bits = low | (_moved(high, 21 - 2 * j) & 0x00600000) | 0x3F800000
        return bits.to(tl.float32, bitcast=True)
    elif VALUES == "e2m1":
        magnitude = _moved(words, 22 - 4 * j) & 0x01C00000
        bits = magnitude | (_moved(words, 28 - 4 * j) & 0x80000000)
        return bits.to(tl.float32, bitcast=True) * 8.507059173023462e37  # 2^126
    elif VALUES == "e4m3":
        magnitude = _moved(words, 20 - 8 * j) & 0x07F00000
        bits = magnitude | (_moved(words, 24 - 8 * j) & 0x80000000)
        return bits.to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2^120
    else:
        return tl.load(table + ((words >> (4 * j)) & 15).to(tl.int32))


@triton.jit
def load_scale(
    data,
    scales_at,
    supers_at,
    groups,
    features,
    is_inside,
    n,
    span,
    part: tl.constexpr,
    SCALES: tl.constexpr,
):
    """Return the scales of groups, float32. part: which half of a group, where they have two."""
    if SCALES == "half":
        place = (groups // span) * n + features
        halves = (data + scales_at).to(tl.pointer_type(tl.float16))
        return tl.load(halves + place, mask=is_inside, other=0.0).to(tl.float32)
    elif SCALES == "float":
        place = (groups // span) * n + features
        floats = (data + scales_at).to(tl.pointer_type(tl.float32))
        return tl.load(floats + place, mask=is_inside, other=0.0)
    elif SCALES == "e8m0":
        power = tl.load(data + scales_at + groups * n + features, mask=is_inside, other=0)
        bits = tl.where(power == 0, 0x00400000, power.to(tl.int32) << 23)
        return bits.to(tl.float32, bitcast=True)
    supers = (data + supers_at).to(tl.pointer_type(tl.float16))
    of_supers = (groups // 8) * n + features
    if SCALES == "k":
        d = tl.load(supers + 2 * of_supers, mask=is_inside, other=0.0).to(tl.float32)
        scale = tl.load(data + scales_at + groups * n + features, mask=is_inside, other=0)
        return d * scale.to(tl.float32)
    else:
        d = tl.load(supers + of_supers, mask=is_inside, other=0.0).to(tl.float32)
        signed = (data + scales_at).to(tl.pointer_type(tl.int8))
        place = (groups * n + features) * 2 + part
        return d * tl.load(signed + place, mask=is_inside, other=0).to(tl.float32)


@triton.jit
def load_factors(
    data,
    scales_at,
    mins_at,
    supers_at,
    groups,
    features,
    is_inside,
    n,
    span,
    part: tl.constexpr,
    SCALES: tl.constexpr,
    HAS_MINS: tl.constexpr,
    UNIT: tl.constexpr,
    ZERO: tl.constexpr,
):
    """Return what decode()'s values are multiplied by and what is added then, float32."""
    scale = UNIT * load_scale(
        data, scales_at, supers_at, groups, features, is_inside, n, span, part, SCALES
    )
    added = -ZERO * scale
    if HAS_MINS:
        added += load_min(data, mins_at, supers_at, groups, features, is_inside, n, span, SCALES)
    return scale, added


@triton.jit
def load_min(
    data,
    mins_at,
    supers_at,
    groups,
    features,
    is_inside,
    n,
    span,
    SCALES: tl.constexpr,
):
    """Return what is added to each value of groups, float32."""
    if SCALES == "half":
        place = (groups // span) * n + features
        halves = (data + mins_at).to(tl.pointer_type(tl.float16))
        return tl.load(halves + place, mask=is_inside, other=0.0).to(tl.float32)
    else:
        supers = (data + supers_at).to(tl.pointer_type(tl.float16))
        of_supers = (groups // 8) * n + features
        dmin = tl.load(supers + 2 * of_supers + 1, mask=is_inside, other=0.0).to(tl.float32)
        minimum = tl.load(data + mins_at + groups * n + features, mask=is_inside, other=0)
        return -dmin * minimum.to(tl.float32)
