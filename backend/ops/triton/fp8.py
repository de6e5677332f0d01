"""Floats of 8 bits, e4m3 (Micikevicius et al. 2022), to and from float32, by their bits.

A sign, four bits of an exponent whose bias is 7, three of a mantissa; the largest is 448. Hardware
converts from compute capability 8.9 on; these shifts and masks do on any.
"""

import triton
import triton.language as tl

LARGEST = tl.constexpr(448.0)


@triton.jit
def from_fp8(bits):
    """Return what uint8 stand for, float32. In the places of a float32 the exponent is too low by
    120, which one multiplication mends, subnormals included."""
    wide = bits.to(tl.uint32)
    moved = ((wide & 0x7F) << 20) | ((wide & 0x80) << 24)
    return moved.to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2^120


@triton.jit
def to_fp8(x):
    """Round float32 of up to 448 to the nearest, uint8; halves to the even one."""
    size = tl.minimum(tl.abs(x), LARGEST)
    bits = size.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20
    # Below 2^-6 steps are 2^-9: added to 2^23 a number of them is in the lowest bits.
    steps = (size * 512.0 + 8388608.0).to(tl.uint32, bitcast=True) & 0xF
    code = tl.where(size < 0.015625, steps, rounded - 960)  # (127 - 7) * 8
    sign = (x.to(tl.uint32, bitcast=True) >> 24) & 0x80
    return (code | sign).to(tl.uint8)
