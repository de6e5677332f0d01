"""Reads a model's tensors out of GGUF files: row order and blocks turned into torch's.

Owns the slicing of quantised blocks. The header is `gguf_header`'s, the arithmetic of blocks the
gguf library's.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from backend.config.ggml_type import GGMLType
from backend.config.gguf_header import GGUFTensor, read_headers
from backend.config.model_config import ModelConfig
from backend.config.sources import Names
from backend.quant.kept_weights import BlockColumns
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat, format_of, whole_blocks
from backend.weights.head_rows import own_rows, stored_rows
from backend.weights.slices import ALL
from backend.weights.source_table import SourceTable

_Bytes = npt.NDArray[np.uint8]

# Torch views of the types that need no arithmetic, through the numpy type torch knows.
_PLAIN = {
    GGMLType.F32: (np.dtype(np.float32), torch.float32),
    GGMLType.F16: (np.dtype(np.float16), torch.float16),
    GGMLType.BF16: (np.dtype(np.int16), torch.bfloat16),
}

# Elements dequantised at a time: 4 MiB of float32. A [49152, 576] Q8_0 takes 40 ms so, 100 ms at
# once (one slow core), and the temporaries stay small however large the matrix is.
_CHUNK = 1 << 20


class GGUFCheckpoint(SourceTable):
    """A Checkpoint of one GGUF file or of a split one's parts, memory-mapped."""

    def __init__(self, path: Path, config: ModelConfig, names: Names) -> None:
        self._tensors: dict[str, tuple[GGUFTensor, _Bytes]] = {}
        for header in read_headers(path):
            data = np.memmap(header.path, np.uint8, mode="r")
            for tensor in header.tensors.values():
                self._tensors[tensor.name] = (tensor, data)
        found = names.sources(config, self._tensors)[0].values()
        self._scales = self._take_scales({source.name for source in found})
        super().__init__(config, names, self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shape_in(name, self._tensor(name).shape)

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> torch.Tensor:
        tensor = self._tensor(name)
        if len(self.shape(name)) == 1:
            source = self.sources[name]
            stored = self._bytes(name).reshape(-1, tensor.row_bytes)
            whole = _decode(stored, tensor, ALL).view(tensor.shape)
            rows = stored_rows(rows, self.shape(name)[0], source)
            values = (whole if source.expert is None else whole[source.expert]).flatten()[rows]
            if source.heads or source.groups:
                values = torch.from_numpy(own_rows(values.numpy(), source))
            return values.clone()
        values = _decode(self._rows(name, rows), tensor, cols)
        scale = self._scale(name)
        return values if scale is None else values.float() * scale

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        tensor = self._tensor(name)
        weight_format = self.weight_format(name, cols)
        if weight_format is WeightFormat.DENSE:
            raise ValueError(f"{name}: columns {cols} of {tensor.qtype.name} are not whole blocks")
        start, stop, _ = cols.indices(tensor.shape[-1])
        size, size_bytes = weight_format.block_size, weight_format.block_bytes
        kept = slice(start // size * size_bytes, stop // size * size_bytes)
        blocks = np.ascontiguousarray(self._rows(name, rows)[:, kept])
        return QuantizedWeight(weight_format, blocks)

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        if name not in self.sources:
            return WeightFormat.DENSE
        tensor = self._tensor(name)
        if self._scale(name) is not None:
            return WeightFormat.DENSE
        return whole_blocks(format_of(tensor.qtype.name), cols, tensor.shape[-1])

    def stored_type(self, name: str) -> str:
        return self._tensor(name).qtype.name

    def block_columns(self, name: str, cols: slice = ALL) -> BlockColumns:
        return BlockColumns()

    def column_order(self, name: str, cols: slice = ALL) -> torch.Tensor | None:
        return None

    def close(self) -> None:
        # The mappings go with their last view.
        self._tensors.clear()

    def _take_scales(self, known: Collection[str]) -> dict[str, torch.Tensor]:
        """Take out what llama.cpp multiplies a product by, one number, or one for each expert.

        Files of NVFP4 have it: name of the weight -> the numbers. What such files multiply
        activations by, to round them to 4 bits, is of no use here. known: tensors of the model's
        own, which may be called so.
        """
        scales = {}
        for name in self._tensors.keys() - known:
            stem, _, kind = name.rpartition(".")
            if kind in ("scale", "input_scale") and f"{stem}.weight" in self._tensors:
                tensor, data = self._tensors.pop(name)
                raw = data[tensor.offset : tensor.offset + tensor.num_bytes]
                if kind == "scale":
                    scales[f"{stem}.weight"] = _decode(raw[None], tensor, ALL).float().view(-1)
        return scales

    def _scale(self, name: str) -> torch.Tensor | None:
        source = self.sources[name]
        if (scales := self._scales.get(source.name)) is None:
            return None
        return scales[0 if source.expert is None else source.expert]

    def _tensor(self, name: str) -> GGUFTensor:
        return self._tensors[self.sources[name].name][0]

    def _bytes(self, name: str) -> _Bytes:
        tensor, data = self._tensors[self.sources[name].name]
        return data[tensor.offset : tensor.offset + tensor.num_bytes]

    def _rows(self, name: str, rows: slice) -> _Bytes:
        """Return a matrix's rows as stored, [R, row bytes], those of heads in our order."""
        tensor, source = self._tensor(name), self.sources[name]
        raw = self._bytes(name).reshape(*tensor.shape[:-1], tensor.row_bytes)
        raw = raw if source.expert is None else raw[source.expert]
        return own_rows(raw[stored_rows(rows, self.shape(name)[0], source)], source)


def _decode(raw: _Bytes, tensor: GGUFTensor, cols: slice) -> torch.Tensor:
    """Turn rows of blocks into numbers. raw: [R, row bytes] -> [R, cols], a new tensor."""
    block_size, block_bytes = tensor.qtype.block_size, tensor.qtype.block_bytes
    start, stop, _ = cols.indices(tensor.shape[-1])
    stop = max(start, stop)
    # Only the blocks that cover the columns. Cuts at multiples of 32 waste nothing but in K-quants,
    # whose blocks hold 256.
    first, last = start // block_size, -(-stop // block_size)
    raw = raw[..., first * block_bytes : last * block_bytes]
    kept = slice(start - first * block_size, stop - first * block_size)
    if plain := _PLAIN.get(tensor.qtype):
        numpy_dtype, torch_dtype = plain
        return torch.from_numpy(raw.copy().view(numpy_dtype)).view(torch_dtype)
    out = torch.empty(*raw.shape[:-1], stop - start)
    target = out.numpy()
    step = max(1, _CHUNK // tensor.shape[-1])
    for row in range(0, len(raw), step):
        blocks = np.ascontiguousarray(raw[row : row + step])
        target[row : row + step] = dequantize(blocks, GGMLQuantizationType(tensor.qtype))[..., kept]
    return out
