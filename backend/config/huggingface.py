"""Makes a ModelConfig of a Hugging Face directory.

Knows the fields of config.json and generation_config.json, in the layouts of transformers 4 and 5.
Never runs what a directory brings (`auto_map`). No torch. Called by `config.load_config`.
"""

import os
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from backend.config.architectures import HF_ARCHITECTURES
from backend.config.hf_directory import most_common_dtype, read_json
from backend.config.model_config import ModelConfig, ModelError, RopeScaling

_V = TypeVar("_V")


class _Rope(msgspec.Struct):
    """Both layouts: `rope_scaling` up to transformers 4, `rope_parameters` from 5 on."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: float | None = None
    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None
    partial_rotary_factor: float | None = None


class _Config(msgspec.Struct):
    """config.json; a default is the one transformers gives a Llama."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    architectures: list[str] | None = None
    model_type: str | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    hidden_act: str = "silu"
    rope_theta: float | None = None
    rope_scaling: _Rope | None = None
    rope_parameters: _Rope | None = None
    partial_rotary_factor: float | None = None
    sliding_window: int | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    eos_token_id: int | list[int] | None = None
    bos_token_id: int | None = None
    quantization_config: dict[str, Any] | None = None

    def rope(self) -> _Rope:
        return self.rope_parameters or self.rope_scaling or _Rope()


class _GenerationConfig(msgspec.Struct):
    eos_token_id: int | list[int] | None = None


class _Kind(msgspec.Struct):
    architectures: list[str] | None = None
    model_type: str | None = None


def read_config(directory: Path) -> ModelConfig:
    """Read the configuration of a directory, and check the front of its weight files."""
    path = directory / "config.json"
    if not path.exists():
        raise ModelError(_no_config(directory))
    architecture = _architecture(path)
    raw = read_json(path, _Config)
    _check_variant(path, raw)
    stored_dtype = most_common_dtype(directory)
    end_ids = _end_ids(directory, raw)
    rope = raw.rope()
    try:
        return ModelConfig(
            architecture=architecture,
            name=_model_name(directory),
            vocab_size=raw.vocab_size,
            hidden_size=raw.hidden_size,
            intermediate_size=raw.intermediate_size,
            num_layers=raw.num_hidden_layers,
            num_heads=raw.num_attention_heads,
            num_kv_heads=_first(raw.num_key_value_heads, raw.num_attention_heads),
            head_dim=_first(raw.head_dim, raw.hidden_size // max(raw.num_attention_heads, 1)),
            max_model_len=raw.max_position_embeddings,
            rms_norm_eps=raw.rms_norm_eps,
            rope_theta=_first(rope.rope_theta, raw.rope_theta, 10000.0),
            rope_scaling=_rope_scaling(rope),
            tie_word_embeddings=raw.tie_word_embeddings,
            attention_bias=raw.attention_bias,
            mlp_bias=raw.mlp_bias,
            eos_token_ids=end_ids,
            bos_token_id=raw.bos_token_id,
            stored_dtype=stored_dtype,
        )
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from None


def _architecture(path: Path) -> str:
    # Read first: another family lacks the fields of a Llama, and its name is the better message.
    kind = read_json(path, _Kind)
    name = (kind.architectures or [f"model_type {kind.model_type!r}"])[0]
    if name not in HF_ARCHITECTURES:
        raise ModelError(
            f"{path}: architecture {name} is not supported.\n"
            f"Supported: {', '.join(HF_ARCHITECTURES)}"
        )
    return HF_ARCHITECTURES[name]


def _check_variant(path: Path, raw: _Config) -> None:
    """Refuse the variants of the architecture that would be computed wrongly."""
    if raw.quantization_config is not None:
        method = raw.quantization_config.get("quant_method", "unknown")
        raise ModelError(
            f"{path}: weights are quantised with {method!r}, which is not supported.\n"
            "Take the unquantised model, or a GGUF file of it."
        )
    if raw.hidden_act != "silu":
        raise ModelError(f"{path}: hidden_act {raw.hidden_act!r} is not supported; silu is")
    if 0 < (raw.sliding_window or 0) < raw.max_position_embeddings:
        raise ModelError(
            f"{path}: a sliding window of {raw.sliding_window} tokens is not supported.\n"
            f'Set "max_position_embeddings" to {raw.sliding_window} to serve it up to there.'
        )
    share = _first(raw.rope().partial_rotary_factor, raw.partial_rotary_factor, 1.0)
    if share != 1.0:
        raise ModelError(f"{path}: partial_rotary_factor {share} is not supported")


def _rope_scaling(rope: _Rope) -> RopeScaling | None:
    kind = rope.rope_type or rope.type or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", factor=_needed(rope, "factor"))
    if kind == "llama3":
        scaling = RopeScaling(
            "llama3",
            factor=_needed(rope, "factor"),
            low_freq_factor=_needed(rope, "low_freq_factor"),
            high_freq_factor=_needed(rope, "high_freq_factor"),
            original_max_position_embeddings=int(_needed(rope, "original_max_position_embeddings")),
        )
        if scaling.high_freq_factor <= scaling.low_freq_factor:
            raise ModelError("rope scaling: high_freq_factor must be above low_freq_factor")
        return scaling
    raise ModelError(f"rope scaling {kind!r} is not supported; default, linear and llama3 are")


def _needed(rope: _Rope, field: str) -> float:
    value: float | None = getattr(rope, field)
    if value is None or value <= 0:
        raise ModelError(f"rope scaling: {field} must be above 0, is {value}")
    return value


def _end_ids(directory: Path, raw: _Config) -> tuple[int, ...]:
    end_ids = raw.eos_token_id
    path = directory / "generation_config.json"
    if path.exists():
        # generate() of transformers believes this file over config.json: chat models end with
        # more ids than pretraining had.
        generation = read_json(path, _GenerationConfig)
        if generation.eos_token_id is not None:
            end_ids = generation.eos_token_id
    return (end_ids,) if isinstance(end_ids, int) else tuple(end_ids or ())


def _first(*values: _V | None) -> _V:
    """Return the first value that the file gives; the last one is the default."""
    return next(value for value in values if value is not None)


def _model_name(directory: Path) -> str:
    directory = Path(os.path.abspath(directory))
    # A snapshot in the hub's cache is named by its commit: models--org--name/snapshots/<commit>
    repository = directory.parent.parent.name
    if directory.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return directory.name


def _no_config(directory: Path) -> str:
    ggufs = sorted(directory.glob("*.gguf"))
    if ggufs:
        return f"{directory}: has no config.json; to serve its GGUF file give {ggufs[0]}"
    return (
        f"{directory}: has no config.json, so it is not a Hugging Face model directory\n"
        "give the directory that holds config.json and *.safetensors, or a .gguf file"
    )
