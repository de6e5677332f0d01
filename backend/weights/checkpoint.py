"""Reads tensors out of a model file, one slice at a time.

Owns the Checkpoint interface and the choice of format. Knows names and shapes, not layers or
ranks: whoever asks says which rows and columns it keeps.
"""

from pathlib import Path
from typing import Protocol

import torch

from backend.config.model_config import ModelConfig, ModelError
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from backend.weights.shapes import expected_shapes
from backend.weights.slices import ALL


class Checkpoint(Protocol):
    """Named tensors of a model file.

    Names are Hugging Face's ("model.layers.0.self_attn.q_proj.weight", "lm_head.weight"); shapes
    are those of torch's Linear, [out, in]. Tensors that the architecture has no name for keep the
    file's name, so that a loader sees what is left over.
    """

    def names(self) -> frozenset[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str, rows: slice = ALL, cols: slice = ALL) -> torch.Tensor:
        """Return a slice of a tensor; no other part of it is read or dequantised.

        Slices have no step; cols is for matrices. Rows of q_proj and k_proj come in whole heads.
        Returns a contiguous CPU tensor that the caller owns: float32 where the file is quantised,
        else the stored dtype. Raises KeyError for an unknown name, ModelError for a dtype that
        cannot be computed with.
        """
        ...

    def read_quantized(self, name: str, rows: slice = ALL, cols: slice = ALL) -> QuantizedWeight:
        """Return the slice in the blocks that it is stored in; it may be a view of the file.

        Raises ValueError where weight_format() of the slice is DENSE.
        """
        ...

    def weight_format(self, name: str, cols: slice = ALL) -> WeightFormat:
        """Return how columns of a tensor are stored: DENSE where they are in no blocks that are
        multiplied as they are, or begin or end inside one."""
        ...

    def stored_type(self, name: str) -> str:
        """Return what the file calls the type of a tensor."""
        ...

    def close(self) -> None:
        """Let go of the files. Tensors that were read stay valid."""
        ...


def open_checkpoint(path: Path, config: ModelConfig) -> Checkpoint:
    """Open the weights that `config` was read from.

    Raises ModelError for a bad file and for a tensor whose shape `config` contradicts. A missing
    tensor is the loader's to report.
    """
    checkpoint = _open(path, config)
    for name, expected in expected_shapes(config).items():
        if name in checkpoint.names() and checkpoint.shape(name) != expected:
            shape = checkpoint.shape(name)
            checkpoint.close()
            raise ModelError(
                f"{path}: tensor {name} has shape {list(shape)}, the model's configuration"
                f" says {list(expected)}"
            )
    return checkpoint


def _open(path: Path, config: ModelConfig) -> Checkpoint:
    # Imported on use: a rank reads one format.
    if path.is_dir():
        from backend.weights.safetensors import SafetensorsCheckpoint

        return SafetensorsCheckpoint(path, config)
    from backend.weights.gguf import GGUFCheckpoint

    return GGUFCheckpoint(path, config)
