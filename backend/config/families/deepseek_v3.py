"""DeepSeek V3 and R1 (DeepSeek-AI 2024): compressed keys and values, experts in groups.

As GGUF files, DeepSeek V2, GLM-4.7-Flash and others that llama.cpp runs by the same graph.
"""

from typing import Any

from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import (
    GGUF_LATENT_PARTS,
    GGUF_OWN,
    LATENT_PARTS,
    read_gguf_experts,
    read_gguf_latent,
    read_latent,
    read_routed_experts,
)
from backend.config.sizes import num_layers
from backend.config.spec import MLP, DecoderSpec, Experts, Layer, Norm

# How they were trained; aux_loss_alpha and seq_aux of DeepSeek's own code.
TRAINING = frozenset({"aux_loss_alpha", "seq_aux", "ep_size"})


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    if fields.kind == "gguf":
        return gguf_spec(fields)
    fields.must_be("scoring_func", "sigmoid", "only sigmoid is supported")
    fields.must_be("topk_method", "noaux_tc", "only noaux_tc is supported")
    fields.must_be("moe_layer_freq", 1, "every layer behind the first dense ones has experts")
    # Layers that predict further tokens stand behind the others, and are left out.
    fields.harmless(["num_nextn_predict_layers"])
    attention = read_latent(fields)
    experts = read_routed_experts(fields, 2048)
    dense = fields.integer("first_k_dense_replace", 3)
    mlp = MLP(fields.integer("intermediate_size", 18432))
    layers = tuple(
        Layer(attention, experts if index >= dense else mlp) for index in range(num_layers(fields))
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-6)))


def gguf_spec(fields: Fields) -> DecoderSpec:
    """Return what llama.cpp's graph of deepseek2 computes. Raises ModelError."""
    norm = Norm(fields.number("rms_norm_eps"))
    attention = read_gguf_latent(fields, norm.eps)
    count = num_layers(fields) - fields.integer("nextn_predict_layers", 0)
    dense = fields.integer("leading_dense_block_count", 0)
    experts: Experts | None = read_gguf_experts(fields) if dense < count else None
    fields.harmless(["intermediate_size"])
    layers = tuple(
        Layer(attention, experts if experts and index >= dense else _mlp(fields))
        for index in range(count)
    )
    return DecoderSpec(layers, norm)


def _mlp(fields: Fields) -> MLP:
    return MLP(fields.integer("intermediate_size"))


DEFAULTS: dict[str, Any] = {
    "n_group": 8,
    "topk_group": 4,
    "q_lora_rank": 1536,
    "routed_scaling_factor": 2.5,
    "max_position_embeddings": 4096,
}

FAMILY = Family(
    name="deepseek_v3",
    huggingface=("DeepseekV3ForCausalLM",),
    gguf=("deepseek2",),
    spec=_spec,
    # Of 61 layers the next predicts a further token; transformers leaves it out by this name.
    hf_names=hf_names(LATENT_PARTS, fused=FUSED_EXPERTS, ignored=r"model\.layers\.61\..*"),
    gguf_names=gguf_names(GGUF_LATENT_PARTS, ignored=r"blk\.47\..*"),
    aliases={"n_routed_experts": "num_experts"},
    defaults=DEFAULTS,
    harmless=TRAINING,
    own_fields=GGUF_OWN,
    models="DeepSeek V3, R1; as GGUF also V2, GLM-4.7-Flash",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
