"""Makes a ModelConfig of GGUF metadata: llama.cpp's keys turned into Hugging Face's fields.

Knows the keys, and of tensor data only the small tables of rotary factors. Called by
`config.load_config`.
"""

import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from backend.config.architectures import GGUF_ARCHITECTURES, load_family
from backend.config.assemble import make_config
from backend.config.eos import END_KEYS, end_token_ids
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.fields import Fields
from backend.config.gguf_header import GGUFHeader, GGUFTensor, read_headers, read_metadata
from backend.config.model_config import ModelConfig
from backend.config.pooling import Pooling, PoolingMode, Task
from backend.config.special_ids import TOKENS, special_ids
from backend.config.tasks import answer_ids, check_task, default_embedder

# Removed from a file's name to give the model's: parts, and quantisations such as ".Q4_K_M".
_PART_SUFFIX = re.compile(r"-\d{5}-of-\d{5}$")
_TYPE_SUFFIX = re.compile(
    r"[.-]((i1-)?I?Q\d\w*|TQ\d\w*|MXFP4\w*|NVFP4|B?F16|F(P)?(16|32))$", re.IGNORECASE
)

# Keys, behind the architecture's name, that are a field of config.json by another name. Others keep
# their name, such as rope.scaling.type.
_FIELDS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "block_count": "num_hidden_layers",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attention.sliding_window_pattern": "sliding_window_pattern",
    "rope.freq_base": "rope_theta",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
    "attention.relative_buckets_count": "relative_attention_num_buckets",
    "shortconv.l_cache": "conv_L_cache",
    "decoder_block_count": "num_decoder_layers",
    "attention.shared_kv_layers": "num_kv_shared_layers",
    "embedding_length_per_layer_input": "hidden_size_per_layer_input",
}
# Every file has these; the embedding says how many tokens there are.
_HARMLESS = ("vocab_size", "tensor_data_layout")
# llama.cpp's llama_pooling_type; 0 is none, 4 is for rerankers.
_POOLING_TYPES: dict[int, PoolingMode] = {1: "mean", 2: "cls", 3: "lasttoken"}
# Encoders that llama.cpp serves, and what serves here in their place.
_IN_THEIR_PLACE = {
    "jina-bert-v2": "jina-embeddings-v3 is, and GTE 1.5",
    "nomic-bert-moe": "nomic-embed-text 1.5 is, and multilingual GTE",
}
TABLES = {
    "rope_freqs.weight": "rope.factors",
    "rope_factors_long.weight": "rope.long_factors",
    "rope_factors_short.weight": "rope.short_factors",
}


def read_config(path: Path, task: Task = "auto") -> ModelConfig:
    """Read the configuration from a GGUF file or the first part of a split one.

    task: what the operator wants of the model; "auto": what the file says.
    """
    headers = read_headers(path)
    tensors = {name: t for header in headers for name, t in header.tensors.items()}
    metadata = headers[0].metadata
    architecture, family = _family(path, metadata)
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError(f"{path}: has no tensor 'token_embd.weight'; is it a vocabulary?")
    vocabulary = read_metadata(path, END_KEYS)
    try:
        fields = _fields(architecture, metadata, tensors)
        for name, field in TABLES.items():
            if name in tensors:
                fields.add(field, _read_table(headers, tensors[name]))
        fields.harmless(_HARMLESS)
        if "attention.value_length" not in family.own_fields:
            _check_values(fields)
        _check_experts(fields, family)
        pooling_type = fields.integer("pooling_type", 0)
        config = make_config(
            family,
            fields,
            name=model_name(path),
            vocab_size=embedding.shape[0],
            tie_word_embeddings="output.weight" not in tensors,
            eos_token_ids=end_token_ids(vocabulary),
            bos_token_id=special_ids(vocabulary).get("bos"),
            stored_dtype=_most_common_type(tensors),
        )
        return _with_task(path, config, pooling_type, task)
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from None


def model_name(path: Path) -> str:
    """Return the file's name without part number, quantisation and suffix."""
    stem = _PART_SUFFIX.sub("", path.stem)
    return _TYPE_SUFFIX.sub("", stem) or stem


def _with_task(path: Path, config: ModelConfig, pooling_type: int, task: Task) -> ModelConfig:
    """Return the configuration for what the model is served for.

    Vectors have length 1, as llama.cpp's server gives them.
    """
    is_pooled = config.sees_ahead or pooling_type in _POOLING_TYPES
    natural: Task = "embed" if is_pooled else "generate"
    if classifier := config.spec.classifier:
        natural = "rerank"
    wanted = check_task(config, natural, task)
    if wanted == "generate":
        return config
    if wanted == "rerank":
        if classifier:
            return config.pooled(Pooling("rerank", (classifier.of,)))
        return config.pooled(Pooling("rerank", ("lasttoken",), answer_ids=_answers(path)))
    if pooling_type in _POOLING_TYPES:
        return config.pooled(Pooling("embed", (_POOLING_TYPES[pooling_type],), is_normalized=True))
    pooling, notes = default_embedder(config, "no pooling_type")
    return config.pooled(msgspec.structs.replace(pooling, is_normalized=True), notes)


def _answers(path: Path) -> tuple[int, ...]:
    tokens = read_metadata(path, frozenset((TOKENS,))).get(TOKENS, ())
    assert isinstance(tokens, tuple | list)
    return answer_ids({str(token): token_id for token_id, token in enumerate(tokens)})


def _family(path: Path, metadata: Mapping[str, Any]) -> tuple[str, Family]:
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in GGUF_ARCHITECTURES:
        if name in _IN_THEIR_PLACE:
            raise ModelError(
                f"{path}: architecture {name!r} is not read from GGUF files\n"
                f"nor is the directory that it was made of; {_IN_THEIR_PLACE[name]}"
            )
        raise ModelError(
            f"{path}: architecture {name!r} is not supported.\n"
            f"Supported in GGUF files: {', '.join(GGUF_ARCHITECTURES)}"
        )
    return name, load_family(GGUF_ARCHITECTURES[name])


def _fields(
    architecture: str, metadata: Mapping[str, Any], tensors: Mapping[str, GGUFTensor]
) -> Fields:
    """Return the keys of the architecture as fields."""
    values, labels = {}, {}
    for key, value in metadata.items():
        if key.startswith(f"{architecture}."):
            own = key.removeprefix(f"{architecture}.")
            values[_FIELDS.get(own, own)] = _of_all_layers(key, value)
    for own, field in _FIELDS.items():
        labels[field] = f"metadata key {architecture}.{own}"
    labels |= {field: f"metadata key {architecture}.{field}" for field in values - labels.keys()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return Fields("gguf", values, shapes, labels)


def _of_all_layers(key: str, value: Any) -> Any:
    """Return what a list says of every layer, if it is the same, else the list."""
    if isinstance(value, tuple) and value and len(set(value)) == 1:
        return value[0]
    return list(value) if isinstance(value, tuple) else value


def _check_values(fields: Fields) -> None:
    """Refuse values of another size than keys; no family here has them."""
    size = fields.raw("head_dim")
    if size is None and fields.integer("num_attention_heads") > 0:
        size = fields.integer("hidden_size") // fields.integer("num_attention_heads")
    fields.must_be("attention.value_length", size, f"only that of keys, {size}, is supported")


def _check_experts(fields: Fields, family: Family) -> None:
    """Refuse groups of experts, of which some are chosen first; files may say there are none."""
    groups = fields.integer("expert_group_count", 0)
    if groups > 1 and "expert_group_count" not in family.own_fields:
        raise ModelError(
            f"{fields.label('expert_group_count')} is {groups}: experts in groups are not supported"
        )
    fields.harmless(["expert_group_used_count"])
    if fields.integer("num_experts", 0) == 0:
        fields.harmless(["num_experts_per_tok", "moe_intermediate_size"])


def _read_table(headers: list[GGUFHeader], tensor: GGUFTensor) -> list[float]:
    # They take 0.15 s to import, and few models have a table.
    import numpy as np
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    path = next(h.path for h in headers if tensor.name in h.tensors)
    with path.open("rb") as file:
        file.seek(tensor.offset)
        raw = np.frombuffer(file.read(tensor.num_bytes), np.uint8)
    factors: list[float] = dequantize(raw, GGMLQuantizationType(tensor.qtype)).tolist()
    if len(tensor.shape) != 1 or not all(factor > 0 for factor in factors):
        raise ModelError(f"tensor {tensor.name!r} is not a list of factors")
    return factors


def _most_common_type(tensors: dict[str, GGUFTensor]) -> str:
    num_elements: Counter[str] = Counter()
    for tensor in tensors.values():
        num_elements[tensor.qtype.name] += prod(tensor.shape)
    name = num_elements.most_common(1)[0][0]
    return {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(name, name)
