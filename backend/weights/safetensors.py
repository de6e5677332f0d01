"""Reads tensors out of the safetensors files of a Hugging Face directory.

Owns which shard holds a name. The container is the safetensors library's, which checks a header
against the file's size before anything is mapped.
"""

from pathlib import Path
from typing import Any

import torch

from backend.config.errors import ModelError
from backend.config.hf_directory import DTYPES, UNSUPPORTED_DTYPE, find_shards, open_shard
from backend.config.model_config import ModelConfig
from backend.config.sources import Names, Source
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from backend.weights.head_rows import to_halves
from backend.weights.slices import ALL, shifted
from backend.weights.source_table import SourceTable


class SafetensorsCheckpoint(SourceTable):
    """A Checkpoint of model.safetensors or of the shards that an index names."""

    def __init__(self, directory: Path, config: ModelConfig, names: Names) -> None:
        self._shards: dict[str, Any] = {}
        for path in find_shards(directory):
            shard = open_shard(path, "pt")
            for name in shard.keys():
                if name in self._shards:
                    raise ModelError(f"{directory}: two shards hold tensor {name}")
                self._shards[name] = shard
        super().__init__(config, names, self._shards)

    def shape(self, name: str) -> tuple[int, ...]:
        source = self.sources[name]
        whole = tuple(self._slice_of(source).get_shape())
        return self.shape_in(name, whole)

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> torch.Tensor:
        source = self.sources[name]
        tensor = self._slice_of(source)
        if (dtype := tensor.get_dtype()) not in DTYPES:
            raise ModelError(f"tensor {name}: weights stored as {dtype} {UNSUPPORTED_DTYPE}")
        shape = self.shape(name)
        if not shape:
            number: torch.Tensor = tensor[...]
            return number.clone()
        rows = shifted(rows, shape[0], source.start)
        places: tuple[int | slice, ...]
        if len(shape) == 1:
            places = (rows,)
        else:
            cols = shifted(cols, shape[1], 0)
            places = (cols, rows) if source.is_transposed else (rows, cols)
        if source.expert is not None:
            places = (source.expert, *places)
        piece: torch.Tensor = tensor[places]
        if source.is_transposed and len(shape) == 2:
            piece = piece.T
        if source.heads:
            piece = torch.from_numpy(to_halves(piece.float().numpy(), source.heads)).to(piece.dtype)
        # The slice is a view of the mapped file.
        return piece.clone(memory_format=torch.contiguous_format)

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        raise ValueError(f"{name}: safetensors has no blocks")

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        return WeightFormat.DENSE

    def stored_type(self, name: str) -> str:
        return str(self._slice_of(self.sources[name]).get_dtype())

    def close(self) -> None:
        self._shards.clear()

    def _slice_of(self, source: Source) -> Any:
        return self._shards[source.name].get_slice(source.name)
