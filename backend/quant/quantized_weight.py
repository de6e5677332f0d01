"""Matrices in ggml's blocks: rows of bytes, as a file holds them.

Nothing is computed on them here but where a test or an oracle asks what they stand for.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from gguf.quants import dequantize
from torch import Tensor

from backend.quant.weight_format import WeightFormat


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight [N, K]. blocks: [N, bytes of a row], contiguous; may be a view of a mapped file."""

    format: WeightFormat
    blocks: npt.NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        rows, row_bytes = self.blocks.shape
        return rows, row_bytes // self.format.block_bytes * self.format.block_size

    def to_dense(self) -> Tensor:
        """Return the weight, float32 [N, K]."""
        if self.format.is_own:
            return self._own_to_dense()
        return torch.from_numpy(dequantize(self.blocks, self.format.ggml_type))

    def _own_to_dense(self) -> Tensor:
        blocks = torch.from_numpy(self.blocks).view(len(self.blocks), -1, self.format.block_bytes)
        factors, values = blocks[..., :4].contiguous(), blocks[..., 4:].contiguous()
        if self.format is WeightFormat.FP8:
            numbers = values.view(torch.float8_e4m3fn).float()
            return (factors.view(torch.float32) * numbers).flatten(1)
        halves = factors.view(torch.float16).float()
        out: Tensor = halves[..., :1] * values.view(torch.int8) + halves[..., 1:]
        return out.flatten(1)


def concatenate(parts: list[QuantizedWeight]) -> QuantizedWeight:
    """Stack matrices of one format and width."""
    [weight_format] = {part.format for part in parts}
    return QuantizedWeight(weight_format, np.concatenate([part.blocks for part in parts]))


def weight_of_fields(weight_format: WeightFormat, *fields: Tensor) -> QuantizedWeight:
    """Put the fields of blocks, [N, blocks, n] each, side by side as bytes."""
    blocks = torch.cat([field.contiguous().view(torch.uint8) for field in fields], dim=-1)
    return QuantizedWeight(weight_format, blocks.flatten(1).cpu().numpy())
