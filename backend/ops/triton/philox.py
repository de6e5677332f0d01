"""Philox4x32-10 in Triton: the draws of sampling/philox.py, bit for bit."""

import triton
import triton.language as tl

_ROUNDS: tl.constexpr = tl.constexpr(10)


@triton.jit
def uniform(seed, choice, position):
    """Return a float64 in [0, 1) with 53 random bits. seed, choice, position: int64."""
    key = seed.to(tl.uint64, bitcast=True)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    c0 = position.to(tl.uint64, bitcast=True) & 0xFFFFFFFF
    c1 = choice.to(tl.uint64, bitcast=True) & 0xFFFFFFFF
    c2, c3 = c0 ^ c0, c0 ^ c0
    for _ in tl.static_range(_ROUNDS):
        product0, product1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0 = (product1 >> 32) ^ c1 ^ k0
        c2 = (product0 >> 32) ^ c3 ^ k1
        c1, c3 = product1 & 0xFFFFFFFF, product0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    # 53 bits are positive as int64, which every card turns into float64.
    bits = (((c0 << 32) | c1) >> 11).to(tl.int64, bitcast=True)
    return bits.to(tl.float64) * 1.1102230246251565e-16
