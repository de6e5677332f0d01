"""A linear of a quantised directory, read slice by slice in float32 or in ggml's blocks.

Owns which of the two serves. What lies in which tensor is awq.py's, gptq.py's and
compressed_tensors.py's.
"""

from functools import cached_property
from math import gcd

import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.config.quantization import Layout
from backend.config.quantized_linears import StoredLinear
from backend.quant.column_order import order_columns, shared_columns
from backend.quant.kept_weights import BlockColumns
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.rounding import BLOCK
from backend.quant.scaled_groups import ScaledGroups, fits_half
from backend.quant.weight_format import WeightFormat
from backend.weights.awq import AwqParts
from backend.weights.compressed_tensors import PackedParts, PlainParts
from backend.weights.gptq import GptqParts
from backend.weights.linear_parts import LinearParts, OpenTensor
from backend.weights.slices import ALL

# Of a number of a dense weight, mostly.
_DENSE_BYTES = 2
_PARTS: dict[Layout, type[AwqParts | GptqParts | PackedParts | PlainParts]] = {
    "awq": AwqParts,
    "gptq": GptqParts,
    "packed": PackedParts,
    "plain": PlainParts,
}


class QuantizedLinear:
    """One linear [out, in]; slices of it are read as those of any other matrix."""

    def __init__(self, linear: StoredLinear, opened: OpenTensor) -> None:
        self.shape = linear.shape
        self._linear = linear
        self._opened = opened
        self._parts: LinearParts = _PARTS[linear.scheme.layout](linear, opened)
        self._orders: dict[tuple[int, int], Tensor | None] = {}  # by where columns begin and end

    def read(self, rows: slice = ALL, cols: slice = ALL) -> Tensor:
        """Return a slice, float32."""
        return self._groups(rows, cols).to_dense()

    def read_quantized(self, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        """Return a slice in blocks. Raises ValueError where format_of() its columns is DENSE."""
        weight_format = self.format_of(cols)
        if weight_format is WeightFormat.DENSE:
            raise ValueError(f"{self._linear.module}: columns {cols} are not whole blocks")
        groups, order = self._groups(rows, cols), self.column_order(cols)
        return (groups if order is None else groups.in_order(order)).to_blocks(weight_format)

    def format_of(self, cols: slice = ALL) -> WeightFormat:
        """Return the blocks that columns can be read in."""
        start, stop, _ = cols.indices(self.shape[1])
        wanted = self._blocks[0]
        if self._group_index is None:
            return WeightFormat.DENSE if start % BLOCK or stop % BLOCK else wanted
        if (order := self.column_order(cols)) is None:
            return wanted
        # Columns of many groups, a few of each, may fill more than they would take by themselves.
        is_less = len(order) // BLOCK * wanted.block_bytes < (stop - start) * _DENSE_BYTES
        return wanted if is_less else WeightFormat.DENSE

    def column_order(self, cols: slice = ALL) -> Tensor | None:
        """Return which of the columns stands at each place of the blocks; None: each at its own."""
        if self._group_index is None:
            return None
        start, stop, _ = cols.indices(self.shape[1])
        # A plan, a format and each read ask for it.
        if (start, stop) not in self._orders:
            self._orders[start, stop] = order_columns(self._group_index[start:stop])
        return self._orders[start, stop]

    def block_columns(self, cols: slice = ALL) -> BlockColumns:
        """Return what is known of columns in blocks."""
        start, size = cols.indices(self.shape[1])[0], self._linear.scale_block[1]
        if (index := self._group_index) is not None:
            order = self.column_order(cols)
            return BlockColumns(shared_columns(index[cols]), 0 if order is None else len(order))
        return BlockColumns(size if size >= self.shape[1] else gcd(size, start))

    @property
    def stored_type(self) -> str:
        """What it is stored as, and what keeps it from being read in blocks."""
        return f"{self._linear.scheme.name} {self._blocks[1]}".rstrip()

    @cached_property
    def _group_index(self) -> Tensor | None:
        """Return the group of each column, [in]; None where one group follows the other."""
        if (part := self._linear.group_index) is None:
            return None
        index: Tensor = self._opened(f"{self._linear.module}.{part}")[...].long()
        k, size = self.shape[1], self._linear.scale_block[1]
        num_groups = -(-k // size)
        # compressed-tensors writes -1 where it has no order.
        if torch.equal(index, torch.arange(k) // size) or bool((index == -1).all()):
            return None
        if int(index.min()) < 0 or int(index.max()) >= num_groups:
            raise ModelError(
                f"tensor {self._linear.module}.{part} has group {int(index.max())} of {num_groups}"
            )
        return index

    def _groups(self, rows: slice, cols: slice) -> ScaledGroups:
        n, k = self.shape
        size = self._linear.scale_block[1]
        rows, cols = slice(*rows.indices(n)[:2]), slice(*cols.indices(k)[:2])
        groups = slice(0, -(-k // size))
        if (index := self._group_index) is not None:
            of_columns = index[cols]
        else:
            groups = slice(cols.start // size, -(-cols.stop // size))
            of_columns = torch.arange(cols.start, cols.stop) // size - groups.start
        scales = self._parts.scales(rows, groups).float()
        zeros = self._parts.zeros(rows, groups)
        zeros = torch.full_like(scales, self._parts.middle) if zeros is None else zeros.float()
        return ScaledGroups(self._parts.values(rows, cols), scales, zeros, of_columns)

    @cached_property
    def _blocks(self) -> tuple[WeightFormat, str]:
        """Return the blocks that say what the file says, or DENSE and why there are none."""
        scheme, size = self._linear.scheme, self._linear.scale_block[1]
        has_zeros = self._has_zeros()
        if scheme.is_float:
            is_whole = not (self.shape[1] % BLOCK or (size % BLOCK and size != self.shape[1]))
            return (WeightFormat.FP8 if is_whole else WeightFormat.DENSE), ""
        has_cut = self.shape[1] % BLOCK or (size % BLOCK and size != self.shape[1])
        if has_cut and self._group_index is None:
            return WeightFormat.DENSE, f"in groups of {min(size, self.shape[1])}"
        is_wide = scheme.bits == 8 or scheme.layout == "plain"
        if not self._fit_scales():
            return WeightFormat.DENSE, "with scales that float16 has not"
        if is_wide:
            # A GPU's kernels alone know the format with minimums.
            return (
                (WeightFormat.Q8_MINS, "with zero points") if has_zeros else (WeightFormat.Q8_0, "")
            )
        return (WeightFormat.Q4_1 if has_zeros else WeightFormat.Q4_0), ""

    def _has_zeros(self) -> bool:
        """Whether any zero point is not the middle value.

        Raises ModelError where the file says that there are none.
        """
        zeros = self._parts.zeros(slice(0, self.shape[0]), self._all_groups)
        if zeros is None:
            return False
        others = zeros[zeros != self._parts.middle]
        if len(others) and self._linear.scheme.is_symmetric:
            raise ModelError(
                f"tensor {self._linear.module}.{self._linear.zeros} has zero point"
                f" {int(others[0])}, where symmetric weights have {self._parts.middle}\n"
                "sym, symmetric or checkpoint_format of quantization_config is wrong"
            )
        return len(others) > 0

    def _fit_scales(self) -> bool:
        if self._linear.parts[self._linear.scale].dtype == "F16":
            return True
        return fits_half(self._parts.scales(slice(0, self.shape[0]), self._all_groups))

    @property
    def _all_groups(self) -> slice:
        return slice(0, -(-self.shape[1] // self._linear.scale_block[1]))
