"""Mistral Small 4 (Mistral AI 2026): compressed keys, YaRN, queries scaled by position.

It comes inside a model that sees, and is served as text only.
"""

from typing import Any

from backend.config.families.deepseek_v3 import gguf_spec
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import (
    GGUF_LATENT_PARTS,
    GGUF_OWN,
    LATENT_PARTS,
    read_latent,
    read_routed_experts,
)
from backend.config.rope_fields import rope_parameters
from backend.config.sizes import num_layers
from backend.config.spec import MLP, DecoderSpec, Layer, Norm, QueryScaling

_BETA = "llama_4_scaling_beta"
# What transformers' Mistral4Config takes where a file has no parameters.
_ROPE: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 128.0,
    "original_max_position_embeddings": 8192,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    _BETA: 0.1,
}


def _spec(fields: Fields) -> DecoderSpec:
    if fields.kind == "gguf":
        return gguf_spec(fields)
    fields.one_of("hidden_act", ["silu"], "silu")
    if "rope_scaling" not in fields and "rope_parameters" not in fields:
        fields.add("rope_parameters", _ROPE)
    rope_dim = fields.integer("qk_rope_head_dim", 64)
    attention = read_latent(
        fields,
        query_scaling=_query_scaling(fields),
        known=frozenset({_BETA}),
        turning=rope_dim / (rope_dim + fields.integer("qk_nope_head_dim", 64)),
    )
    experts = read_routed_experts(fields, 2048, top_k=4, is_corrected=False)
    dense = fields.integer("first_k_dense_replace", 0)
    mlp = MLP(fields.integer("intermediate_size", 12288))
    layers = tuple(
        Layer(attention, experts if index >= dense else mlp) for index in range(num_layers(fields))
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-6)))


def _query_scaling(fields: Fields) -> QueryScaling | None:
    parameters = rope_parameters(fields)
    if parameters.get(_BETA) is None:
        return None
    original = int(parameters["original_max_position_embeddings"])
    return QueryScaling(float(parameters[_BETA]), original)


FAMILY = Family(
    name="mistral4",
    huggingface=("Mistral4ForCausalLM",),
    gguf=("mistral4",),
    spec=_spec,
    hf_names=hf_names(LATENT_PARTS, fused=FUSED_EXPERTS),
    gguf_names=gguf_names(GGUF_LATENT_PARTS),
    aliases={"n_routed_experts": "num_experts"},
    defaults={
        "kv_lora_rank": 256,
        "q_lora_rank": 1024,
        "qk_nope_head_dim": 64,
        "max_position_embeddings": 1048576,
    },
    own_fields=GGUF_OWN,
    models="Mistral Small 4",
)
