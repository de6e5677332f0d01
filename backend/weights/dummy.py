"""A checkpoint that nobody has: random weights in a model's shapes, the same each time.

The numbers of a tensor are one long row of random ones, over and over: so 26 GB come at the speed
of memory. Their scale is that of trained weights, roughly, so that numbers stay finite and logits
differ; what such a model writes means nothing.
"""

import zlib

import torch
from torch import Tensor

from backend.config.errors import ModelError
from backend.config.model_config import ModelConfig
from backend.config.tensors import tensors_of
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from backend.weights.slices import ALL

# A prime: whatever a row's width, the rows of a matrix are not alike.
PERIOD = 1_048_583
SEED = 0
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class DummyCheckpoint:
    """See Checkpoint. A slice has the numbers that it has in the whole."""

    def __init__(self, config: ModelConfig) -> None:
        """Raises ModelError for a model whose weights are quantised."""
        if config.stored_dtype not in _TYPES:
            raise ModelError(
                f"random weights are not made in {config.stored_dtype}: leave quantization_config "
                "out of config.json\n--quantization rounds dense ones"
            )
        self.left_over: list[str] = []
        self._infos = tensors_of(config)
        self._type = _TYPES[config.stored_dtype]
        self._numbers = torch.randn(PERIOD, generator=torch.Generator().manual_seed(SEED))
        self._dtype = getattr(torch, config.stored_dtype)

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
        start, stop, _ = rows.indices(shape[0])
        width = shape[1] if len(shape) == 2 else 1
        place = zlib.crc32(name.encode()) + start * width
        base, scale = _kind(name, shape)
        numbers = (base + scale * self._numbers).to(self._dtype)
        flat = _repeated(numbers, place % PERIOD, max(0, stop - start) * width)
        return flat if len(shape) == 1 else flat.view(-1, width)[:, cols].contiguous()

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        raise ValueError(f"{name}: is in no blocks")

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        return WeightFormat.DENSE

    def stored_type(self, name: str) -> str:
        return self._type

    def scale_columns(self, name: str) -> int:
        return 0

    def close(self) -> None:
        pass


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
