"""Reads tensors out of the safetensors files of a Hugging Face directory.

Owns which shard holds a name. The container is the safetensors library's, which checks a header
against the file's size before anything is mapped.
"""

import re
from pathlib import Path
from typing import Any

import torch

from backend.config.hf_directory import DTYPES, UNSUPPORTED_DTYPE, find_shards, open_shard
from backend.config.model_config import ModelConfig, ModelError
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from backend.weights.slices import ALL

# Written by old versions of transformers, derived from the configuration since.
_NOT_WEIGHTS = re.compile(r".*\.rotary_emb\.inv_freq")


class SafetensorsCheckpoint:
    """A Checkpoint of model.safetensors or of the shards that an index names."""

    def __init__(self, directory: Path, config: ModelConfig) -> None:
        self._shards: dict[str, Any] = {}
        for path in find_shards(directory):
            shard = open_shard(path, "pt")
            for name in shard.keys():
                if name in self._shards:
                    raise ModelError(f"{directory}: two shards hold tensor {name}")
                if not _NOT_WEIGHTS.fullmatch(name):
                    self._shards[name] = shard
        if config.tie_word_embeddings:
            # Some files hold the embedding a second time under this name.
            self._shards.pop("lm_head.weight", None)

    def names(self) -> frozenset[str]:
        return frozenset(self._shards)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._shards[name].get_slice(name).get_shape())

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> torch.Tensor:
        tensor = self._shards[name].get_slice(name)
        if (dtype := tensor.get_dtype()) not in DTYPES:
            raise ModelError(f"tensor {name}: weights stored as {dtype} {UNSUPPORTED_DTYPE}")
        piece: torch.Tensor = tensor[rows] if len(tensor.get_shape()) == 1 else tensor[rows, cols]
        # The slice is a view of the mapped file.
        return piece.clone(memory_format=torch.contiguous_format)

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        raise ValueError(f"{name}: safetensors has no blocks")

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        return WeightFormat.DENSE

    def stored_type(self, name: str) -> str:
        return str(self._shards[name].get_slice(name).get_dtype())

    def close(self) -> None:
        self._shards.clear()
