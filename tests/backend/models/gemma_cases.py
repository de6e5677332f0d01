"""Tiny models of gemma, gemma2, gemma3 and granite."""

from collections.abc import Callable
from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.family_cases import REMOVED, SIZES, FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin, NamedTensors

# Six layers, of which the last sees all in Gemma 3; heads larger than hidden_size says.
_GEMMA: dict[str, Any] = {
    "head_dim": 12,
    "query_pre_attn_scalar": 20,
    "sliding_window": 9,
    "hidden_activation": "gelu_pytorch_tanh",
}
_GEMMA3 = _GEMMA | {"num_hidden_layers": 7}
_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 50000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
}


def gemma_change(name: str, tensor: Tensor, config: Any) -> NamedTensors:
    """As norm_shift of the converter has it."""
    return [(name, tensor + 1 if name.endswith("norm.weight") else tensor)]


def _gemma_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    if config.attn_logit_softcapping:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)


def _listed(listed: list[bool]) -> Callable[[gguf.GGUFWriter, Any], None]:
    """Return metadata with a pattern as newer converters write it."""

    def add(writer: gguf.GGUFWriter, config: Any) -> None:
        _gemma_metadata(writer, config)
        writer.add_sliding_window_pattern(listed)

    return add


def _granite_metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_attention_scale(config.attention_multiplier)
    writer.add_embedding_scale(config.embedding_multiplier)
    writer.add_residual_scale(config.residual_multiplier)
    writer.add_logit_scale(config.logits_scaling)


_TYPES = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
GEMMA = {
    "gemma": FamilyCase(
        "GemmaForCausalLM", {"head_dim": 12}, twin=GGUFTwin("GEMMA", change=gemma_change)
    ),
    "gemma, biases and a head": FamilyCase(
        "GemmaForCausalLM",
        {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": False},
        json={"hidden_act": "gelu", "hidden_activation": None},
    ),
    "gemma2": FamilyCase(
        "Gemma2ForCausalLM",
        _GEMMA | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gemma2, twin": FamilyCase(
        # llama.cpp takes the scale from the size of a head.
        "Gemma2ForCausalLM",
        _GEMMA | {"query_pre_attn_scalar": 12, "final_logit_softcapping": 5.0},
        twin=GGUFTwin("GEMMA2", metadata=_gemma_metadata, change=gemma_change),
    ),
    "gemma3": FamilyCase(
        "Gemma3ForCausalLM",
        _GEMMA3 | {"rope_parameters": _ROPES, "attention_bias": True, "tie_word_embeddings": False},
    ),
    "gemma3, older fields": FamilyCase(
        "Gemma3ForCausalLM",
        _GEMMA3
        | {
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            "rope_theta": 30000.0,
            "rope_local_base_freq": 300.0,
            "sliding_window_pattern": 3,
            "final_logit_softcapping": 4.0,
        },
        json={
            "rope_parameters": REMOVED,
            "layer_types": REMOVED,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            "rope_theta": 30000.0,
            "rope_local_base_freq": 300.0,
            "sliding_window_pattern": 3,
            "_sliding_window_pattern": REMOVED,
        },
    ),
    "gemma3, twin": FamilyCase(
        "Gemma3ForCausalLM",
        _GEMMA3 | {"query_pre_attn_scalar": 12, "rope_parameters": _ROPES},
        twin=GGUFTwin("GEMMA3", metadata=_gemma_metadata, change=gemma_change),
    ),
    "gemma3, listed layers": FamilyCase(
        "Gemma3ForCausalLM",
        _GEMMA | {"query_pre_attn_scalar": 12, "num_hidden_layers": 4, "layer_types": _TYPES},
        twin=GGUFTwin(
            "GEMMA3",
            metadata=_listed([kind == "sliding_attention" for kind in _TYPES]),
            change=gemma_change,
        ),
    ),
    "gemma3, seeing": FamilyCase(
        "Gemma3ForConditionalGeneration",
        {
            "text_config": SIZES | _GEMMA3 | {"query_pre_attn_scalar": 12},
            "vision_config": {
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 8,
                "patch_size": 4,
            },
            "mm_tokens_per_image": 4,
            "image_token_index": 0,
        },
        is_whole=True,
        twin=GGUFTwin("GEMMA3", metadata=_gemma_metadata, change=gemma_change),
    ),
    "granite": FamilyCase(
        "GraniteForCausalLM",
        {
            "attention_multiplier": 0.4,
            "embedding_multiplier": 7.0,
            "residual_multiplier": 0.3,
            "logits_scaling": 2.5,
            "attention_bias": True,
            "mlp_bias": True,
        },
        twin=GGUFTwin("GRANITE", is_interleaved=True, metadata=_granite_metadata),
    ),
}
