"""What a weight is stored as, in a file or after it was rounded at load."""

import enum

from backend.config.ggml_type import GGMLType

# Blocks of our own: values of a byte each, behind four bytes of what turns them into numbers.
OWN_BLOCK_SIZE = 32
OWN_BLOCK_BYTES = 4 + OWN_BLOCK_SIZE


class WeightFormat(enum.StrEnum):
    """How the numbers of a weight are kept.

    DENSE: as bf16, fp16 or fp32. Q8_CHANNEL: 8-bit integers with a scale for each row, as torch's
    kernel takes them. FP8: 32 values in e4m3 behind their scale in float32; Q8_MINS: 32 signed ones
    behind their scale and what is added to each in float16; blocks of our own for what directories
    hold. All others are ggml's, bit for bit: blocks of small integers along a row,
    with their scales. A file may hold formats that are not here; these are read dense.
    """

    DENSE = enum.auto()
    Q8_CHANNEL = enum.auto()
    Q4_0 = enum.auto()
    Q4_1 = enum.auto()
    Q5_0 = enum.auto()
    Q5_1 = enum.auto()
    Q8_0 = enum.auto()
    Q2_K = enum.auto()
    Q3_K = enum.auto()
    Q4_K = enum.auto()
    Q5_K = enum.auto()
    Q6_K = enum.auto()
    IQ4_NL = enum.auto()
    MXFP4 = enum.auto()
    FP8 = enum.auto()
    Q8_MINS = enum.auto()

    @property
    def is_own(self) -> bool:
        """Whether it is none of ggml's, and lies in blocks."""
        return self in (WeightFormat.FP8, WeightFormat.Q8_MINS)

    @property
    def ggml_type(self) -> GGMLType:
        """ggml's number of the format; for dense weights that of bf16."""
        name = "BF16" if self is WeightFormat.DENSE else self.name
        return GGMLType[name]

    @property
    def block_size(self) -> int:
        """Columns of a block."""
        return OWN_BLOCK_SIZE if self.is_own else self.ggml_type.block_size

    @property
    def block_bytes(self) -> int:
        """Bytes of a block, scales included."""
        return OWN_BLOCK_BYTES if self.is_own else self.ggml_type.block_bytes

    @property
    def bits(self) -> int:
        """Bits of each integer, without its share of the scales: the digit in the name."""
        return int(next(letter for letter in self.name if letter.isdigit()))


BLOCK_FORMATS = tuple(
    weight_format
    for weight_format in WeightFormat
    if weight_format not in (WeightFormat.DENSE, WeightFormat.Q8_CHANNEL)
    and not weight_format.is_own
)
"""The formats of ggml's blocks."""


def whole_blocks(weight_format: WeightFormat, cols: slice, k: int) -> WeightFormat:
    """Return the format that columns of a matrix of k have by themselves: DENSE where they begin or
    end inside a block."""
    start, stop, _ = cols.indices(k)
    is_cut = start % weight_format.block_size or stop % weight_format.block_size
    return WeightFormat.DENSE if is_cut else weight_format


def format_of(ggml_type: str) -> WeightFormat:
    """Return the format of ggml's type of this name; DENSE where its blocks do not multiply."""
    return WeightFormat.__members__.get(ggml_type, WeightFormat.DENSE)
