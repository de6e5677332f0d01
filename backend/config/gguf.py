"""Makes a ModelConfig of GGUF metadata, in llama.cpp's vocabulary of keys.

Knows the keys and tensor names of the architectures served, nothing of tensor data but the small
`rope_freqs` table. Called by `config.load_config`.
"""

import re
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from backend.config.architectures import GGUF_ARCHITECTURES
from backend.config.eos import END_KEYS, end_token_ids
from backend.config.gguf_header import GGUFHeader, GGUFTensor, read_headers, read_metadata
from backend.config.model_config import ModelConfig, ModelError, RopeScaling
from backend.config.special_ids import special_ids

# Removed from a file's name to give the model's: parts, and quantisations such as ".Q4_K_M".
_PART_SUFFIX = re.compile(r"-\d{5}-of-\d{5}$")
_TYPE_SUFFIX = re.compile(
    r"[.-]((i1-)?I?Q\d\w*|TQ\d\w*|MXFP4\w*|NVFP4|B?F16|F(P)?(16|32))$", re.IGNORECASE
)


def read_config(path: Path) -> ModelConfig:
    """Read the configuration from a GGUF file or the first part of a split one."""
    headers = read_headers(path)
    return _Metadata(path, headers).config()


def model_name(path: Path) -> str:
    """Return the file's name without part number, quantisation and suffix."""
    stem = _PART_SUFFIX.sub("", path.stem)
    return _TYPE_SUFFIX.sub("", stem) or stem


@dataclass(frozen=True, slots=True)
class _Metadata:
    """Typed look-ups in the first part's metadata, and the tensors of all parts."""

    path: Path
    headers: list[GGUFHeader]

    def config(self) -> ModelConfig:
        architecture = self.architecture()
        num_heads = self.integer("attention.head_count")
        hidden_size = self.integer("embedding_length")
        head_dim = self.integer("attention.key_length", hidden_size // max(num_heads, 1))
        self.check_attention(head_dim)
        tensors = self.tensors()
        vocabulary = read_metadata(self.path, END_KEYS)
        embedding = tensors.get("token_embd.weight")
        if embedding is None:
            raise ModelError(f"{self.path}: has no tensor 'token_embd.weight'; is it a vocabulary?")
        try:
            return ModelConfig(
                architecture=architecture,
                name=model_name(self.path),
                vocab_size=embedding.shape[0],
                hidden_size=hidden_size,
                intermediate_size=self.integer("feed_forward_length"),
                num_layers=self.integer("block_count"),
                num_heads=num_heads,
                num_kv_heads=self.integer("attention.head_count_kv", num_heads),
                head_dim=head_dim,
                max_model_len=self.integer("context_length"),
                rms_norm_eps=self.number("attention.layer_norm_rms_epsilon"),
                rope_theta=self.number("rope.freq_base", 10000.0),
                rope_scaling=self.rope_scaling(tensors.get("rope_freqs.weight")),
                tie_word_embeddings="output.weight" not in tensors,
                attention_bias="blk.0.attn_q.bias" in tensors,
                mlp_bias="blk.0.ffn_gate.bias" in tensors,
                eos_token_ids=end_token_ids(vocabulary),
                bos_token_id=special_ids(vocabulary).get("bos"),
                stored_dtype=_most_common_type(tensors),
            )
        except ModelError as exc:
            raise ModelError(f"{self.path}: {exc}") from None

    def tensors(self) -> dict[str, GGUFTensor]:
        return {name: t for header in self.headers for name, t in header.tensors.items()}

    def architecture(self) -> str:
        name = self.headers[0].metadata.get("general.architecture")
        if not isinstance(name, str) or name not in GGUF_ARCHITECTURES:
            raise ModelError(
                f"{self.path}: architecture {name!r} is not supported.\n"
                f"Supported in GGUF files: {', '.join(GGUF_ARCHITECTURES)}"
            )
        return GGUF_ARCHITECTURES[name]

    def check_attention(self, head_dim: int) -> None:
        """Refuse the variants of the architecture that would be computed wrongly."""
        if num_experts := self.integer("expert_count", 0):
            raise ModelError(f"{self.path}: {num_experts} experts; mixtures are not supported")
        context = self.integer("context_length")
        if 0 < (window := self.integer("attention.sliding_window", 0)) < context:
            raise ModelError(f"{self.path}: a sliding window of {window} tokens is not supported")
        for key in ("attention.value_length", "rope.dimension_count"):
            if (value := self.integer(key, head_dim)) != head_dim:
                raise ModelError(
                    f"{self.path}: llama.{key} is {value}; only the head size, {head_dim}, is"
                    " supported"
                )

    def rope_scaling(self, table: GGUFTensor | None) -> RopeScaling | None:
        factor = self.number("rope.scaling.factor", 0.0) or self.number("rope.scale_linear", 0.0)
        kind = self.headers[0].metadata.get("llama.rope.scaling.type", "linear")
        if kind not in ("none", "linear"):
            raise ModelError(
                f"{self.path}: rope scaling {kind!r} is not supported; linear and llama3 are"
            )
        by = factor if kind == "linear" and factor > 0 else 1.0
        if table is not None:
            return RopeScaling("factors", factors=tuple(by * f for f in self.read_table(table)))
        return RopeScaling("linear", factor=by) if by != 1.0 else None

    def read_table(self, tensor: GGUFTensor) -> list[float]:
        # They take 0.15 s to import, and few models have a table.
        import numpy as np
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        path = next(h.path for h in self.headers if tensor.name in h.tensors)
        with path.open("rb") as file:
            file.seek(tensor.offset)
            raw = np.frombuffer(file.read(tensor.num_bytes), np.uint8)
        factors: list[float] = dequantize(raw, GGMLQuantizationType(tensor.qtype)).tolist()
        if len(tensor.shape) != 1 or not all(factor > 0 for factor in factors):
            raise ModelError(f"{self.path}: tensor {tensor.name!r} is not a list of factors")
        return factors

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.number(key, default)
        if isinstance(value, float):
            raise ModelError(f"{self.path}: metadata key llama.{key} is {value}, not an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        key = f"llama.{key}"
        value = self.headers[0].metadata.get(key, default)
        if isinstance(value, tuple) and value:
            if len(set(value)) > 1:
                raise ModelError(f"{self.path}: {key} differs between layers; not supported")
            value = value[0]
        if value is None:
            raise ModelError(f"{self.path}: metadata key {key} is missing")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(f"{self.path}: metadata key {key} is {value!r}, not a number")
        return value


def _most_common_type(tensors: dict[str, GGUFTensor]) -> str:
    num_elements: Counter[str] = Counter()
    for tensor in tensors.values():
        num_elements[tensor.qtype.name] += prod(tensor.shape)
    name = num_elements.most_common(1)[0][0]
    return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(name, name)
