"""Tiny models of gpt_oss; their experts in MXFP4 are mxfp4_model.py's."""

from collections.abc import Iterable
from typing import Any

import gguf
from torch import Tensor

from tests.backend.models.family_cases import FamilyCase
from tests.backend.models.gguf_twin import GGUFTwin


def _change(name: str, tensor: Tensor, config: Any) -> Iterable[tuple[str, Tensor]]:
    """Take stacks apart as the converter does: rows of gates and of what they gate take turns."""
    if name.endswith("sinks"):
        return [(f"{name}.weight", tensor)]
    stem, is_bias = name.removesuffix("_bias"), name.endswith("_bias")
    if not stem.endswith(("experts.gate_up_proj", "experts.down_proj")):
        return [(name, tensor)]
    kind, rows = ("bias", tensor) if is_bias else ("weight", tensor.transpose(1, 2))
    if stem.endswith("down_proj"):
        return [(f"{stem}.{kind}", rows)]
    return [
        (f"{stem.replace('gate_up_proj', part)}.{kind}", rows[:, first::2])
        for first, part in enumerate(("gate_proj", "up_proj"))
    ]


def _metadata(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_sliding_window(config.sliding_window)
    writer.add_expert_feed_forward_length(config.intermediate_size)


TWIN = GGUFTwin("GPT_OSS", metadata=_metadata, change=_change)
# 32 columns are what MXFP4 cuts no further; three ranks have some each.
FIELDS: dict[str, Any] = {
    "head_dim": 16,
    "hidden_size": 96,
    "intermediate_size": 96,
    "num_local_experts": 6,
    "num_experts_per_tok": 3,
    "sliding_window": 10,
    "num_hidden_layers": 3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 150000.0},
}
_YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 8.0,
    # The ramp goes from 0.8 to 4.8: rounded it would be another.
    "original_max_position_embeddings": 400,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
}

GPT_OSS = {
    "gpt_oss": FamilyCase("GptOssForCausalLM", FIELDS, twin=TWIN),
    "gpt_oss, yarn": FamilyCase(
        "GptOssForCausalLM", FIELDS | {"rope_parameters": _YARN}, twin=TWIN
    ),
    "gpt_oss, limits that count": FamilyCase(
        "GptOssForCausalLM",
        FIELDS
        | {
            "swiglu_limit": 0.5,
            "swiglu_alpha": 1.2,
            "attention_bias": False,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "tie_word_embeddings": True,
            "rope_parameters": _YARN | {"truncate": True},
        },
    ),
}
