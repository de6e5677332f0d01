"""Experts in MXFP4 of a Hugging Face directory, slice by slice in ggml's blocks of it.

No number changes on the way: the same values and exponents, in another order.
"""

import torch
from torch import Tensor

from backend.config.mxfp4_stacks import BLOCK, StoredStack
from backend.quant.kept_weights import BlockColumns
from backend.quant.quantized_weight import QuantizedWeight, weight_of_fields
from backend.quant.weight_format import WeightFormat
from backend.weights.linear_parts import OpenTensor
from backend.weights.slices import ALL


class Mxfp4Matrix:
    """One matrix [out, in] of a stack; slices of it are read as those of any other."""

    stored_type = "MXFP4"

    def __init__(self, stack: StoredStack, expert: int, opened: OpenTensor) -> None:
        self._stack, self._expert, self._opened = stack, expert, opened
        self.shape = stack.shape[1:]

    def read(self, rows: slice = ALL, cols: slice = ALL) -> Tensor:
        """Return a slice, float32."""
        start, stop, _ = cols.indices(self.shape[1])
        first = start // BLOCK * BLOCK
        whole = self._blocks(rows, slice(first // BLOCK, -(-stop // BLOCK))).to_dense()
        return whole[:, start - first : stop - first].contiguous()

    def read_quantized(self, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        """Return a slice in blocks. Raises ValueError where format_of() its columns is DENSE."""
        if self.format_of(cols) is WeightFormat.DENSE:
            raise ValueError(f"{self._stack.name}: columns {cols} are not whole blocks")
        start, stop, _ = cols.indices(self.shape[1])
        return self._blocks(rows, slice(start // BLOCK, stop // BLOCK))

    def format_of(self, cols: slice = ALL) -> WeightFormat:
        """Return the blocks that columns can be read in."""
        start, stop, _ = cols.indices(self.shape[1])
        return WeightFormat.DENSE if start % BLOCK or stop % BLOCK else WeightFormat.MXFP4

    def block_columns(self, cols: slice = ALL) -> BlockColumns:
        """Return what is known of columns: blocks have scales of their own."""
        return BlockColumns()

    def column_order(self, cols: slice = ALL) -> Tensor | None:
        """Return in which order columns stand in blocks: in the file's."""
        return None

    def _blocks(self, rows: slice, groups: slice) -> QuantizedWeight:
        """Return blocks of ggml: the exponent, then the first 16 values in low bits, the others in
        high ones. The file's bytes have neighbours side by side."""
        values: Tensor = self._opened(self._stack.blocks)[self._expert, rows, groups]
        exponents: Tensor = self._opened(self._stack.scales)[self._expert, rows, groups]
        # [out, groups, 16] -> [out, groups, 32]
        codes = torch.stack((values & 15, values >> 4), dim=-1).flatten(2)
        packed = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << 4
        return weight_of_fields(WeightFormat.MXFP4, exponents[..., None], packed)
