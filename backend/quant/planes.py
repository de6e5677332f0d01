"""How a GPU keeps a weight in few bits: fields of ggml's blocks, each gathered in a plane.

A block has its scale between its values, so that neighbours in a matrix lie 18 or 210 bytes apart.
Here the same fields of all blocks lie together, group of 32 columns after group, feature after
feature: what the threads of a program read side by side lies side by side. No torch; linear/triton
fills and reads the planes, kept_weights.py counts them.

    plane     of each            bytes
    values    group and feature  32 * low bits / 8
    high      group and feature  32 * high bits / 8: bits 4 and 5 of values of 5 and 6 bits
    scales    group and feature  1, 2 or 4
    mins      group and feature  1 or 2, where the format has minimums
    supers    256 and feature    the factors of k-quants' scales: d, or d and dmin, float16

A value lies in a word of 32 bits: value j of word i of a group, which has W of them, is that of
column W * j + i, in bits j * b and up, where b is 4 or 8. The fifth bit of column c is bit c of the
group's high word, the fifth and sixth of value j of word i are two bits of high word i // 2 from
16 * (i % 2) + 2 * j. A plane begins at a multiple of 16 bytes.
"""

from dataclasses import dataclass
from typing import Literal

from backend.quant.weight_format import WeightFormat

GROUP = 32
SUPER = 256
_ALIGNED = 16
# Groups that may share a scale: 1,024 columns, as many as one scale a feature often has at least.
MOST_SPAN = 32

# What a value is: an integer of so many bits, a place in IQ4_NL's table, a float of 4 or 8 bits.
ValueKind = Literal["uint4", "uint5", "uint6", "uint8", "iq4_nl", "e2m1", "e4m3"]
# What multiplies it: a float16 a group; 8 bits a group and two float16 for 256 columns; 8 bits for
# half a group and one float16; a power of two; a float32.
ScaleKind = Literal["half", "k", "k_halves", "e8m0", "float"]


@dataclass(frozen=True, slots=True)
class PlaneFormat:
    """How a format lies in planes.

    zero: what is subtracted of each integer; Q8_0's are kept with 128 added.
    """

    values: ValueKind
    scales: ScaleKind
    zero: int = 0
    has_mins: bool = False

    @property
    def value_bytes(self) -> int:
        """Of a group's values, without their high bits."""
        return GROUP if self.values in ("uint8", "e4m3") else GROUP // 2

    @property
    def high_bytes(self) -> int:
        return {"uint5": 4, "uint6": 8}.get(self.values, 0)

    @property
    def scale_bytes(self) -> int:
        """Of a group's scales."""
        return {"half": 2, "k": 1, "k_halves": 2, "e8m0": 1, "float": 4}[self.scales]

    @property
    def min_bytes(self) -> int:
        return self.scale_bytes if self.has_mins else 0

    @property
    def super_bytes(self) -> int:
        return {"k": 4, "k_halves": 2}.get(self.scales, 0)


PLANES = {
    WeightFormat.Q4_0: PlaneFormat("uint4", "half", zero=8),
    WeightFormat.Q4_1: PlaneFormat("uint4", "half", has_mins=True),
    WeightFormat.Q5_0: PlaneFormat("uint5", "half", zero=16),
    WeightFormat.Q5_1: PlaneFormat("uint5", "half", has_mins=True),
    WeightFormat.Q8_0: PlaneFormat("uint8", "half", zero=128),
    WeightFormat.Q4_K: PlaneFormat("uint4", "k", has_mins=True),
    WeightFormat.Q5_K: PlaneFormat("uint5", "k", has_mins=True),
    WeightFormat.Q6_K: PlaneFormat("uint6", "k_halves", zero=32),
    WeightFormat.IQ4_NL: PlaneFormat("iq4_nl", "half"),
    WeightFormat.MXFP4: PlaneFormat("e2m1", "e8m0"),
    WeightFormat.FP8: PlaneFormat("e4m3", "float"),
    WeightFormat.Q8_MINS: PlaneFormat("uint8", "half", zero=128, has_mins=True),
}
"""The formats that are multiplied on a GPU as they are. Scales of k-quants take 8 bits, not 6."""


@dataclass(frozen=True, slots=True)
class PlanePlaces:
    """Where the planes of a weight begin, in bytes; values are at 0. size: of all of them."""

    high: int
    scales: int
    mins: int
    supers: int
    size: int


def span_of(planes: PlaneFormat, k: int, scale_columns: int) -> int:
    """Return how many groups in a row share a scale at least, a power of two.

    k: columns of the weight; scale_columns: that have one scale each; 0: no more than a group.
    """
    span = 1
    if planes.scales not in ("half", "float"):
        return span
    groups, alike = k // GROUP, scale_columns // GROUP
    while alike and span < MOST_SPAN and groups % (2 * span) == 0 and alike % (2 * span) == 0:
        span *= 2
    return span


def places_of(planes: PlaneFormat, n: int, k: int, span: int = 1) -> PlanePlaces:
    """Return where the planes of a weight [n, k] begin.

    span: how many groups share a scale and a minimum.
    """
    groups = k // GROUP
    shared = -(-groups // span)
    ends = [0]
    for size in (
        planes.value_bytes * groups,
        planes.high_bytes * groups,
        planes.scale_bytes * shared,
        planes.min_bytes * shared,
        planes.super_bytes * (k // SUPER),
    ):
        end = ends[-1] + n * size
        ends.append(end + -end % _ALIGNED)
    return PlanePlaces(*ends[1:])
