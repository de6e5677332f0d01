"""A checkpoint that nobody has: random weights in a model's shapes, the same each time.

The numbers of a tensor are one long row of random ones, over and over: so 26 GB come at the speed
of memory. Their scale is that of trained weights, roughly, so that numbers stay finite and logits
differ; what such a model writes means nothing.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.config.quantization import WeightScheme
from backend.config.quantization_methods import read_quantization
from backend.config.tensors import tensors_of
from backend.quant.described import described_blocks, described_scheme
from backend.quant.kept_weights import BlockColumns
from backend.quant.quantized_weight import QuantizedWeight, weight_of_fields
from backend.quant.scaled_groups import ScaledGroups
from backend.quant.weight_format import WeightFormat, whole_blocks
from backend.weights.slices import ALL

# A prime: whatever a row's width, the rows of a matrix are not alike.
PERIOD = 1_048_583
SEED = 0
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
# Of quantised linears: values for numbers that are spread by 1, their step, and what 0 is.
_VALUES = {
    WeightFormat.FP8: (torch.float8_e4m3fn, 1 / 64, 0),
    WeightFormat.Q8_0: (torch.int8, 1 / 25, 0),
    WeightFormat.Q8_MINS: (torch.int8, 1 / 25, 3),
    WeightFormat.Q4_0: (torch.uint8, 1 / 2, 8),
    WeightFormat.Q4_1: (torch.uint8, 1 / 2, 7),
}
# Between the eight magnitudes of MXFP4's values: 0, 1/2, 1, 3/2, 2, 3, 4 and 6.
_E2M1_BORDERS = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])


class DummyCheckpoint:
    """See Checkpoint. A slice has the numbers that it has in the whole."""

    def __init__(self, config: ModelConfig, fields: Mapping[str, Any]) -> None:
        """fields: of config.json. Raises ModelError for a method that is not served."""
        self.left_over: list[str] = []
        self._infos = tensors_of(config)
        self._quantization = read_quantization(dict(fields))
        dtype = config.stored_dtype if config.stored_dtype in _TYPES else "bfloat16"
        self._type, self._dtype = _TYPES[dtype], getattr(torch, dtype)
        self._numbers = torch.randn(PERIOD, generator=torch.Generator().manual_seed(SEED))
        self._values: dict[WeightFormat, Tensor] = {}

    def names(self) -> frozenset[str]:
        return frozenset(self._infos)

    def file_name(self, name: str) -> str:
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self._infos[name].shape

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> Tensor:
        shape = self._infos[name].shape
        if not shape:
            return torch.ones((), dtype=self._dtype)
        base, scale = _kind(name, shape)
        return self._sliced((base + scale * self._numbers).to(self._dtype), name, rows, cols)

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        weight_format = self.weight_format(name, cols)
        if weight_format is WeightFormat.MXFP4:
            return self._in_mxfp4(name, rows, cols)
        dtype, step, zero = _VALUES[weight_format]
        if weight_format not in self._values:
            values = self._numbers / step + zero
            if not dtype.is_floating_point:
                least, most = (-128, 127) if dtype is torch.int8 else (0, 15)
                values = values.round_().clamp_(least, most)
            self._values[weight_format] = values.to(dtype)
        part = self._sliced(self._values[weight_format], name, rows, cols)
        # One scale for all: of a group each has its own, which takes as long to read.
        scale = step * _kind(name, self._infos[name].shape)[1]
        scales = torch.full((len(part), 1), scale)
        groups = torch.zeros(part.shape[1], dtype=torch.int64)
        zeros = torch.full_like(scales, zero)
        return ScaledGroups(part, scales, zeros, groups).to_blocks(weight_format)

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        if (scheme := self._scheme(name)) is None:
            return WeightFormat.DENSE
        k = self._infos[name].shape[1]
        return whole_blocks(described_blocks(scheme, k), cols, k)

    def stored_type(self, name: str) -> str:
        scheme = self._scheme(name)
        return scheme.name if scheme else self._type

    def block_columns(self, name: str, cols: slice = ALL) -> BlockColumns:
        return BlockColumns(self._infos[name].shape[1] if self._scheme(name) else 0)

    def column_order(self, name: str, cols: slice = ALL) -> Tensor | None:
        return None

    def close(self) -> None:
        pass

    def _scheme(self, name: str) -> WeightScheme | None:
        return described_scheme(self._quantization, name, self._infos[name])

    def _in_mxfp4(self, name: str, rows: slice, cols: slice) -> QuantizedWeight:
        """Return a slice whose blocks have one power of 2 for all, the nearest."""
        if WeightFormat.MXFP4 not in self._values:
            codes = torch.bucketize((2 * self._numbers).abs(), _E2M1_BORDERS)
            self._values[WeightFormat.MXFP4] = (codes + 8 * (self._numbers < 0)).to(torch.uint8)
        part = self._sliced(self._values[WeightFormat.MXFP4], name, rows, cols)
        low, high = part.view(len(part), -1, 2, WeightFormat.MXFP4.block_size // 2).unbind(2)
        power = round(math.log2(_kind(name, self._infos[name].shape)[1] / 2))
        exponents = torch.full((*low.shape[:2], 1), 127 + power, dtype=torch.uint8)
        return weight_of_fields(WeightFormat.MXFP4, exponents, low | high << 4)

    def _sliced(self, numbers: Tensor, name: str, rows: slice, cols: slice) -> Tensor:
        """Return a slice of a tensor that is these numbers, over and over."""
        shape = self._infos[name].shape
        start, stop, _ = rows.indices(shape[0])
        width = shape[1] if len(shape) == 2 else 1
        place = zlib.crc32(name.encode()) + start * width
        flat = _repeated(numbers, place % PERIOD, max(0, stop - start) * width)
        return flat if len(shape) == 1 else flat.view(-1, width)[:, cols].contiguous()


def _kind(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return what a tensor's numbers are about, and how far from it."""
    if len(shape) == 2:
        return 0.0, 0.3 if "embed" in name else shape[1] ** -0.5
    return (1.0, 0.1) if "norm" in name else (0.0, 0.1)


def _repeated(numbers: Tensor, start: int, count: int) -> Tensor:
    """Return `count` of the numbers, from one on, over and over."""
    out = torch.empty(count, dtype=numbers.dtype)
    done = 0
    while done < count:
        part = numbers[start : start + count - done]
        out[done : done + len(part)] = part
        done, start = done + len(part), 0
    return out
