"""Reads tensors out of a model file, one slice at a time.

Owns the Checkpoint interface and the choice of format. Knows names and shapes, not layers or
ranks: whoever asks says which rows and columns it keeps.
"""

from pathlib import Path
from typing import Any, Protocol

import torch

from backend.config.architectures import load_family
from backend.config.dummy import is_dummy
from backend.config.errors import ModelError
from backend.config.hf_directory import read_json
from backend.config.model_config import ModelConfig
from backend.config.sources import foreign_names
from backend.config.tensors import tensors_of
from backend.quant.kept_weights import BlockColumns
from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.weight_format import WeightFormat
from backend.weights.slices import ALL


class Checkpoint(Protocol):
    """Named tensors of a model file.

    Names are those of config/tensors.py ("model.layers.0.self_attn.q_proj.weight"); shapes are
    those of torch's Linear, [out, in]. left_over: the file's own names of tensors that the model
    does not use.
    """

    left_over: list[str]

    def names(self) -> frozenset[str]: ...

    def file_name(self, name: str) -> str:
        """Return what the file calls a tensor, or should."""
        ...

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

    def block_columns(self, name: str, cols: slice = ALL) -> BlockColumns:
        """Return what is known of columns that are stored in blocks."""
        ...

    def column_order(self, name: str, cols: slice = ALL) -> torch.Tensor | None:
        """Return which of the columns stands at each place of what read_quantized() gives, see
        quant/column_order.py; None: each at its own."""
        ...

    def close(self) -> None:
        """Let go of the files. Tensors that were read stay valid."""
        ...


def open_checkpoint(path: Path, config: ModelConfig) -> Checkpoint:
    """Open the weights that `config` was read from.

    Raises ModelError for a bad file, for tensors that are missing or left over, and for one whose
    shape `config` contradicts.
    """
    checkpoint = _open(path, config)
    try:
        _check(path, checkpoint, config)
    except ModelError as exc:
        checkpoint.close()
        raise ModelError(f"{path}: {exc}") from None
    return checkpoint


def _check(path: Path, checkpoint: Checkpoint, config: ModelConfig) -> None:
    infos = tensors_of(config)
    present = checkpoint.names()
    if missing := [checkpoint.file_name(name) for name in infos if name not in present]:
        raise ModelError(
            f"has no tensor {_some(missing)}, which a {config.family} model of this configuration"
            f" needs\n{_why_missing(missing, config)}"
        )
    for name, info in infos.items():
        if (shape := checkpoint.shape(name)) != info.shape:
            raise ModelError(
                f"tensor {checkpoint.file_name(name)} has shape {list(shape)}, the model's"
                f" configuration says {list(info.shape)}"
            )
    if checkpoint.left_over:
        raise ModelError(
            f"has tensors that a {config.family} model of this configuration does not use: "
            f"{_some(checkpoint.left_over)}\nto leave them out would change what it computes; "
            f"perhaps {_other_way(path, config)} serves it"
        )


def _why_missing(names: list[str], config: ModelConfig) -> str:
    if names == ["lm_head.weight"]:
        return "if the embedding is the head, config.json must say so: tie_word_embeddings true"
    return "weights are incomplete, or those of another model: download them again, and whole"


def _other_way(path: Path, config: ModelConfig) -> str:
    if not path.is_dir():
        return "a Hugging Face directory of the model, with --model-impl transformers,"
    if config.foreign is not None:
        return "a GGUF file of the model"
    return "another family, or --model-impl transformers,"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _open(path: Path, config: ModelConfig) -> Checkpoint:
    if is_dummy(path):
        from backend.weights.dummy import DummyCheckpoint

        return DummyCheckpoint(config, read_json(path / "config.json", dict[str, Any]))
    if config.foreign is not None:
        from backend.weights.safetensors import SafetensorsCheckpoint

        return SafetensorsCheckpoint(path, config, foreign_names(config.foreign))
    family = load_family(config.family)
    # Imported on use: a rank reads one format.
    if path.is_dir():
        from backend.weights.safetensors import SafetensorsCheckpoint

        return SafetensorsCheckpoint(path, config, family.hf_names)
    from backend.weights.gguf import GGUFCheckpoint

    return GGUFCheckpoint(path, config, family.gguf_names)
