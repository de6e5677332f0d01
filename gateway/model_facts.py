"""What the files of a served model say of it, for clients that list and show models.

Reads headers and configurations, no weights. Called once by a worker before it serves.
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Literal

from backend.config.errors import ModelError
from backend.config.hf_directory import find_shards
from backend.config.model_config import ModelConfig
from backend.config.tensors import tensors_of

_FIRST_PART = "-00001-of-"
# How Ollama spells what is not quantised.
_FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """family: as `config.families` calls it; empty where nothing is known.

    file_format: of its weights. num_bytes: of the files of its weights; 0 where there are none.
    num_parameters: numbers in the tensors that are served; 0 for models that transformers runs.
    quantization: what the files mostly hold, as Ollama spells it. template: of its chats.
    sizes: numbers of its shape, by the names that GGUF has for them behind the architecture's.
    """

    family: str = ""
    file_format: Literal["", "gguf", "safetensors"] = ""
    num_bytes: int = 0
    num_parameters: int = 0
    quantization: str = ""
    template: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def parameter_size(self) -> str:
        """The number of parameters as Ollama writes it: `134.52M`, `1.5B`."""
        number = self.num_parameters
        if number >= 10**9:
            return f"{number / 1e9:.1f}B"
        if number >= 10**6:
            return f"{number / 1e6:.2f}M"
        return f"{number / 1e3:.1f}K" if number >= 1000 else str(number or "")


def facts_of(path: Path, config: ModelConfig, templates: Mapping[str, str]) -> ModelFacts:
    """Return what the files at a model's path say. templates: of its chats, by name."""
    is_directory = path.is_dir()
    infos = tensors_of(config).values() if config.foreign is None else ()
    return ModelFacts(
        family=config.family,
        file_format="safetensors" if is_directory else "gguf",
        num_bytes=sum(file.stat().st_size for file in _files(path)),
        num_parameters=sum(prod(info.shape) for info in infos),
        quantization=_FLOATS.get(config.stored_dtype, config.stored_dtype),
        template=next(iter(templates.values()), ""),
        sizes={
            "embedding_length": config.hidden_size,
            "block_count": len(config.spec.layers),
            "attention.head_count": config.num_heads,
            "attention.head_count_kv": config.num_kv_heads,
            "vocab_size": config.vocab_size,
        },
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        # By its name: to read a header once more takes a quarter of a second.
        is_split = _FIRST_PART in path.name
        pattern = glob.escape(path.name).replace(_FIRST_PART, "-?????-of-")
        return [*path.parent.glob(pattern)] if is_split else [path]
    try:
        return find_shards(path)
    except ModelError:  # weights that are drawn at random, or in files that transformers reads
        return []
