"""An oracle of ggml's blocks: number by number, after the definitions in ggml's own C.

Every product and difference is rounded to float32 once, as there (`dequantize_row_*`).
"""

from collections.abc import Callable, Iterator

import numpy as np

from backend.quant.weight_format import WeightFormat

F = np.float32
# Steps of IQ4_NL and of MXFP4, whose own are halves of these.
_IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_MXFP4 = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)


def numbers_of(weight_format: WeightFormat, block: bytes) -> list[np.float32]:
    """Return what a block stands for, in order."""
    return list(_ORACLES[weight_format](block))


def _half(block: bytes, offset: int) -> np.float32:
    return F(np.frombuffer(block, np.float16, 1, offset)[0])


def _nibbles(packed: bytes) -> list[int]:
    """The low half of every byte, then the high half."""
    return [byte & 15 for byte in packed] + [byte >> 4 for byte in packed]


def _q4_0(block: bytes) -> Iterator[np.float32]:
    d = _half(block, 0)
    for value in _nibbles(block[2:]):
        yield F(value - 8) * d


def _q4_1(block: bytes) -> Iterator[np.float32]:
    d, m = _half(block, 0), _half(block, 2)
    for value in _nibbles(block[4:]):
        yield F(value) * d + m


def _fifth_bits(packed: bytes) -> list[int]:
    bits = int.from_bytes(packed, "little")
    return [(bits >> place & 1) << 4 for place in range(32)]


def _q5_0(block: bytes) -> Iterator[np.float32]:
    d = _half(block, 0)
    for low, high in zip(_nibbles(block[6:]), _fifth_bits(block[2:6]), strict=True):
        yield F((low | high) - 16) * d


def _q5_1(block: bytes) -> Iterator[np.float32]:
    d, m = _half(block, 0), _half(block, 2)
    for low, high in zip(_nibbles(block[8:]), _fifth_bits(block[4:8]), strict=True):
        yield F(low | high) * d + m


def _q8_0(block: bytes) -> Iterator[np.float32]:
    d = _half(block, 0)
    for value in np.frombuffer(block, np.int8, offset=2):
        yield F(value) * d


def _two_bits(packed: bytes, place: int) -> int:
    """The low bits of a number of 256: 64 bytes, of which 32 hold four runs of 32."""
    half, run, column = place // 128, place % 128 // 32, place % 32
    return packed[32 * half + column] >> 2 * run & 3


def _q2_k(block: bytes) -> Iterator[np.float32]:
    scales, values = block[:16], block[16:80]
    d, dmin = _half(block, 80), _half(block, 82)
    for place in range(256):
        scale = scales[place // 16]
        yield d * F(scale & 15) * F(_two_bits(values, place)) - dmin * F(scale >> 4)


def _q3_k_scale(packed: bytes, group: int) -> int:
    """Four low bits in the first eight bytes, two high ones in the last four."""
    low = packed[group % 8] >> 4 * (group // 8) & 15
    high = packed[8 + group % 4] >> 2 * (group // 4) & 3
    return (low | high << 4) - 32


def _q3_k(block: bytes) -> Iterator[np.float32]:
    high_bits, values, scales = block[:32], block[32:96], block[96:108]
    d = _half(block, 108)
    for place in range(256):
        is_high = high_bits[place % 32] >> place // 32 & 1
        value = _two_bits(values, place) - (0 if is_high else 4)
        yield d * F(_q3_k_scale(scales, place // 16)) * F(value)


def _k_scale_and_min(packed: bytes, group: int) -> tuple[int, int]:
    """Six bits each: those of the first four groups whole, of the others in two pieces."""
    if group < 4:
        return packed[group] & 63, packed[group + 4] & 63
    low = packed[group + 4]
    return low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4


def _k_numbers(block: bytes, values: list[int]) -> Iterator[np.float32]:
    d, dmin = _half(block, 0), _half(block, 2)
    for place, value in enumerate(values):
        scale, minimum = _k_scale_and_min(block[4:16], place // 32)
        yield d * F(scale) * F(value) - dmin * F(minimum)


def _k_nibbles(packed: bytes) -> list[int]:
    """32 bytes hold two runs of 32."""
    return [value for start in range(0, 128, 32) for value in _nibbles(packed[start : start + 32])]


def _q4_k(block: bytes) -> Iterator[np.float32]:
    return _k_numbers(block, _k_nibbles(block[16:144]))


def _q5_k(block: bytes) -> Iterator[np.float32]:
    high_bits, low = block[16:48], _k_nibbles(block[48:176])
    high = [(high_bits[place % 32] >> place // 32 & 1) << 4 for place in range(256)]
    return _k_numbers(block, [a | b for a, b in zip(low, high, strict=True)])


def _q6_k(block: bytes) -> Iterator[np.float32]:
    low, high, scales = block[:128], block[128:192], np.frombuffer(block, np.int8, 16, 192)
    d = _half(block, 208)
    for place in range(256):
        half, run, column = place // 128, place % 128 // 32, place % 32
        nibble = low[64 * half + 32 * (run % 2) + column] >> 4 * (run // 2) & 15
        value = nibble | (high[32 * half + column] >> 2 * run & 3) << 4
        yield d * F(scales[place // 16]) * F(value - 32)


def _iq4_nl(block: bytes) -> Iterator[np.float32]:
    d = _half(block, 0)
    for value in _nibbles(block[2:]):
        yield d * F(_IQ4_NL[value])


def _mxfp4(block: bytes) -> Iterator[np.float32]:
    half_scale = F(2.0 ** (block[0] - 128))
    for value in _nibbles(block[1:]):
        yield F(_MXFP4[value]) * half_scale


_ORACLES: dict[WeightFormat, Callable[[bytes], Iterator[np.float32]]] = {
    WeightFormat.Q4_0: _q4_0,
    WeightFormat.Q4_1: _q4_1,
    WeightFormat.Q5_0: _q5_0,
    WeightFormat.Q5_1: _q5_1,
    WeightFormat.Q8_0: _q8_0,
    WeightFormat.Q2_K: _q2_k,
    WeightFormat.Q3_K: _q3_k,
    WeightFormat.Q4_K: _q4_k,
    WeightFormat.Q5_K: _q5_k,
    WeightFormat.Q6_K: _q6_k,
    WeightFormat.IQ4_NL: _iq4_nl,
    WeightFormat.MXFP4: _mxfp4,
}
