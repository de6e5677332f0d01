"""In which format a rank keeps each weight, and what that takes. No torch, no tensor.

linear/ packs weights so, and placement/ says from it what a rank will hold: the one reads these
formulas, the other is tested against them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from backend.quant.planes import PLANES, places_of, span_of
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat

Quantization = Literal["auto", "none", "int4", "int8"]

# Who multiplies: our kernels at any level; PyTorch's with its weight-only ones; PyTorch's for any
# dtype, exact ones among them; Triton's on a GPU.
KernelKind = Literal["native", "torch_bf16", "torch", "triton"]

KEPT_FORMATS: dict[KernelKind, tuple[WeightFormat, ...]] = {
    "native": (WeightFormat.DENSE, *BLOCK_FORMATS),
    "torch_bf16": (
        WeightFormat.DENSE,
        WeightFormat.Q4_0,
        WeightFormat.Q4_1,
        WeightFormat.Q8_CHANNEL,
    ),
    "torch": (WeightFormat.DENSE,),
    "triton": (WeightFormat.DENSE, *PLANES),
}
"""The formats that are multiplied as they are; all others are expanded."""

# What dense weights, and those of more bits, are rounded to, in blocks of so many columns.
_ROUNDED = {"int4": WeightFormat.Q4_1, "int8": WeightFormat.Q8_0}
_ROUNDING_BLOCK = 32
# native/formats.h: features side by side, columns that share a step, of which a k-quant has eight.
_FEATURES, _GROUP, _K_UNIT = 16, 32, 256
# native/formats.h: bits of a value, with those that lie apart.
_VALUE_BITS = {
    WeightFormat.Q4_0: 4, WeightFormat.Q4_1: 4, WeightFormat.Q5_0: 5, WeightFormat.Q5_1: 5,
    WeightFormat.Q8_0: 8, WeightFormat.Q2_K: 2, WeightFormat.Q3_K: 3, WeightFormat.Q4_K: 4,
    WeightFormat.Q5_K: 5, WeightFormat.Q6_K: 6, WeightFormat.IQ4_NL: 4, WeightFormat.MXFP4: 4,
}  # fmt: skip
_WITH_MINS = frozenset(
    {WeightFormat.Q4_1, WeightFormat.Q5_1, WeightFormat.Q2_K, WeightFormat.Q4_K, WeightFormat.Q5_K}
)
# torch's layout of 4 bits takes features so many at a time; others are multiplied dense.
TORCH_INT4_FEATURES = 16


class BlockColumns(NamedTuple):
    """What is known of columns of a weight that a file has in blocks.

    alike: how many share a scale, wherever they begin; 0: those of a block. ordered: how many there
    are where they are in an order of their own (column_order.py), with those that fill blocks up;
    0: as many as columns, in the file's.
    """

    alike: int = 0
    ordered: int = 0


_IN_BLOCKS = BlockColumns()


class WeightFootprint(NamedTuple):
    """What is kept of a weight.

    dense_bytes: itself, in the dtype of the forward pass. packed_bytes: in few bits, beside that or
    instead.
    """

    dense_bytes: int
    packed_bytes: int = 0


def kept_format(
    quantization: Quantization, formats: Collection[WeightFormat], stored_as: WeightFormat, k: int
) -> WeightFormat:
    """Return the format in which a weight of k columns is kept, of those there are kernels for."""
    if quantization == "none":
        return WeightFormat.DENSE
    if quantization == "auto":
        return stored_as if stored_as in formats else WeightFormat.DENSE
    if quantization == "int8" and WeightFormat.Q8_CHANNEL in formats:
        return WeightFormat.Q8_CHANNEL
    rounded = _ROUNDED[quantization]
    is_stored = stored_as is not WeightFormat.DENSE and stored_as in formats
    if is_stored and stored_as.bits <= rounded.bits:
        return stored_as
    return WeightFormat.DENSE if k % _ROUNDING_BLOCK or rounded not in formats else rounded


def native_bytes(weight_format: WeightFormat, n: int, k: int) -> int:
    """Return what our kernels' form of a weight [n, k] takes, as native/README.md draws it."""
    columns = -(-n // _FEATURES)
    if weight_format is WeightFormat.DENSE:
        return columns * _FEATURES * (k + -k % _GROUP) * 2
    is_k_quant = weight_format.name.endswith("_K")
    unit = _K_UNIT if is_k_quant else _GROUP
    values = _FEATURES * unit * _VALUE_BITS[weight_format] // 8
    factors = 2 * _FEATURES * (1 + (weight_format in _WITH_MINS))
    if weight_format is WeightFormat.MXFP4:
        factors = _FEATURES
    elif is_k_quant:
        factors += _K_UNIT // 32 * 2 * _FEATURES
    return columns * (k // unit) * (values + factors)


@dataclass(frozen=True, slots=True)
class KeptWeights:
    """How a rank keeps weights.

    quantization: "auto" keeps the file's formats, "none" makes every weight dense, the others round
    weights that the file has in more bits. kernels: who multiplies. dtype_bytes: of a number of the
    forward pass.
    """

    quantization: Quantization
    kernels: KernelKind
    dtype_bytes: int

    @property
    def is_dense(self) -> bool:
        """Whether every weight is to be dense, whatever kernels there are."""
        return self.quantization == "none"

    def kept_format(self, stored_as: WeightFormat, k: int) -> WeightFormat:
        """Return the format in which a weight of k columns is kept."""
        return kept_format(self.quantization, KEPT_FORMATS[self.kernels], stored_as, k)

    def footprint(
        self,
        stored_as: WeightFormat,
        n: int,
        k: int,
        columns: BlockColumns = _IN_BLOCKS,
    ) -> WeightFootprint:
        """Return what is kept of a weight [n, k] that a file has in a format. columns: of it."""
        kept = self.kept_format(stored_as, k)
        if kept is WeightFormat.DENSE:
            return self.dense_footprint(n, k)
        if kept is not stored_as:
            columns = BlockColumns()
        if columns.ordered:
            in_order = self.footprint(stored_as, n, columns.ordered, BlockColumns(columns.alike))
            # And the order.
            return in_order._replace(packed_bytes=in_order.packed_bytes + 4 * columns.ordered)
        if self.kernels == "native":
            return WeightFootprint(0, native_bytes(kept, n, k))
        if self.kernels == "triton":
            # Scales that neighbouring groups share are kept once.
            span = span_of(PLANES[kept], k, columns.alike)
            return WeightFootprint(0, places_of(PLANES[kept], n, k, span).size)
        packed = n * k + 2 * n  # Q8_CHANNEL: a scale of 2 bytes for each feature
        if kept is not WeightFormat.Q8_CHANNEL:
            # A scale and a zero of bf16 for each group of values.
            packed = 0 if n % TORCH_INT4_FEATURES else n * k // 2 + n * k // _ROUNDING_BLOCK * 4
        return WeightFootprint(n * k * self.dtype_bytes, packed)

    def dense_footprint(self, n: int, k: int) -> WeightFootprint:
        """Return what is kept of a weight [n, k] that is never in few bits."""
        if self.kernels == "native":
            return WeightFootprint(native_bytes(WeightFormat.DENSE, n, k))
        return WeightFootprint(n * k * self.dtype_bytes)

    @property
    def embeds(self) -> bool:
        """Whether rows can be looked up in the form that is kept: our kernels' and Triton's."""
        return self.kernels in ("native", "triton")
