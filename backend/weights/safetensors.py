"""Reads tensors out of the safetensors files of a Hugging Face directory.

Owns which shard holds a name. The container is the safetensors library's, which checks a header
against the file's size before anything is mapped.
"""

from pathlib import Path
from typing import Any

import torch

from backend.config.errors import ModelError
from backend.config.hf_directory import (
    DTYPES,
    UNSUPPORTED_DTYPE,
    file_tensor,
    find_shards,
    open_shard,
)
from backend.config.model_config import ModelConfig
from backend.config.mxfp4_stacks import StoredStack, find_stacks
from backend.config.quantization_methods import quantization_of
from backend.config.quantized_linears import (
    FileTensor,
    Quantized,
    StoredLinear,
    find_linears,
    present,
)
from backend.config.sources import Names
from backend.quant.kept_weights import BlockColumns
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from backend.weights.head_rows import own_rows, stored_rows
from backend.weights.mxfp4 import Mxfp4Matrix
from backend.weights.quantized_linear import QuantizedLinear
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
        stored, self._stacks = self._find_quantized(directory)
        together: dict[str, Quantized] = {**stored, **self._stacks}
        self._shapes = present(together, self._headers())
        super().__init__(config, names, self._shapes)
        self._linears = {
            name: QuantizedLinear(linear, self._open) for name, linear in stored.items()
        }
        # They are [out, in] whatever the family's plain ones are.
        self.sources |= {
            name: source._replace(is_transposed=False)
            for name, source in self.sources.items()
            if source.name in together
        }
        self.left_over = [name for name in self.left_over if not self._is_empty_bias(name)]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shape_in(name, self._shapes[self.sources[name].name])

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> torch.Tensor:
        source = self.sources[name]
        if linear := self._linear(name):
            dense = linear.read(self._rows(name, rows), cols)
            return torch.from_numpy(own_rows(dense.numpy(), source))
        tensor = self._open(source.name)
        if (dtype := tensor.get_dtype()) not in DTYPES:
            raise ModelError(
                f"tensor {source.name}: weights stored as {dtype} {UNSUPPORTED_DTYPE}\n"
                "of quantised weights quantization_config of config.json must say how they are;"
                " take the model in\nBF16, or a GGUF file of it"
            )
        shape = self.shape(name)
        if not shape:
            number: torch.Tensor = tensor[...]
            return number.clone()
        rows = self._rows(name, rows)
        places: tuple[int | slice, ...]
        if len(shape) == 1:
            is_matrix = source.expert is None and len(tensor.get_shape()) == 2
            if is_matrix and tensor.get_shape()[0] > 1:
                tensor = tensor[...].flatten()  # a row for each head, or of one number each
                is_matrix = False
            places = (0, rows) if is_matrix else (rows,)
        else:
            cols = shifted(cols, shape[1], 0)
            places = (cols, rows) if source.is_transposed else (rows, cols)
            if source.expert is None and len(shape) < len(tensor.get_shape()):
                places = (rows, 0, cols)  # a convolution of each channel by itself
        if source.expert is not None:
            places = (source.expert, *places)
        piece: torch.Tensor = tensor[places]
        if source.is_transposed and len(shape) == 2:
            piece = piece.T
        if source.heads or source.groups:
            piece = torch.from_numpy(own_rows(piece.float().numpy(), source)).to(piece.dtype)
        # The slice is a view of the mapped file.
        return piece.clone(memory_format=torch.contiguous_format)

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        source = self.sources[name]
        if (linear := self._linear(name)) is None:
            raise ValueError(f"{name}: is in no blocks")
        weight = linear.read_quantized(self._rows(name, rows), cols)
        return QuantizedWeight(weight.format, own_rows(weight.blocks, source))

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        linear = self._linear(name)
        return linear.format_of(cols) if linear else WeightFormat.DENSE

    def stored_type(self, name: str) -> str:
        linear = self._linear(name)
        return linear.stored_type if linear else self._header(self.sources[name].name).dtype

    def block_columns(self, name: str, cols: slice = ALL) -> BlockColumns:
        linear = self._linear(name)
        return linear.block_columns(cols) if linear else BlockColumns()

    def column_order(self, name: str, cols: slice = ALL) -> torch.Tensor | None:
        linear = self._linear(name)
        return linear.column_order(cols) if linear else None

    def close(self) -> None:
        self._shards.clear()

    def _find_quantized(
        self, directory: Path
    ) -> tuple[dict[str, StoredLinear], dict[str, StoredStack]]:
        quantization = quantization_of(directory)
        if quantization is None:
            return {}, {}
        headers = self._headers()
        stacks = find_stacks(headers) if quantization.method == "mxfp4" else {}
        return find_linears(quantization, headers), stacks

    def _linear(self, name: str) -> QuantizedLinear | Mxfp4Matrix | None:
        if (source := self.sources.get(name)) is None:
            return None
        if (stack := self._stacks.get(source.name)) and source.expert is not None:
            return Mxfp4Matrix(stack, source.expert, self._open)
        return self._linears.get(source.name)

    def _rows(self, name: str, rows: slice) -> slice:
        """Return where rows of a tensor lie in the file's."""
        source = self.sources[name]
        return stored_rows(rows, self.shape(name)[0], source)

    def _is_empty_bias(self, file_name: str) -> bool:
        """Whether a tensor is a bias of nothing: AutoGPTQ gave every linear one."""
        stem = file_name.removesuffix(".bias")
        is_bias = stem != file_name and f"{stem}.weight" in self._linears
        return is_bias and not bool(self._open(file_name)[...].any())

    def _headers(self) -> dict[str, FileTensor]:
        return {name: self._header(name) for name in self._shards}

    def _header(self, file_name: str) -> FileTensor:
        return file_tensor(self._open(file_name))

    def _open(self, file_name: str) -> Any:
        """Return a tensor of the file, of which slices can be read."""
        return self._shards[file_name].get_slice(file_name)
