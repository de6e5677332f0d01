"""LFM2-MoE (Liquid AI 2025): LFM2 with experts in all layers but the first."""

import msgspec

from backend.config.errors import ModelError
from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.lfm2 import (
    ALIASES,
    GGUF_FUSED,
    GGUF_PARTS,
    GGUF_TOP,
    HF_FUSED,
    HF_PARTS,
    HF_TOP,
    hybrid_spec,
)
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.sizes import num_layers
from backend.config.spec import MLP, DecoderSpec, Experts

# llama.cpp's number of the router's function.
SIGMOID = 2
_EXPERT = "feed_forward.experts.{e}."
_HF_EXPERTS: dict[str, str | tuple[str, ...]] = {
    "mlp.router": "feed_forward.gate",
    "mlp.router_correction": "feed_forward.expert",
    "mlp.experts.{e}.gate_proj": f"{_EXPERT}w1",
    "mlp.experts.{e}.up_proj": f"{_EXPERT}w3",
    "mlp.experts.{e}.down_proj": f"{_EXPERT}w2",
}
_HF_STACKS = {
    "feed_forward.experts.gate_up_proj": (
        "mlp.experts.{e}.gate_proj",
        "mlp.experts.{e}.up_proj",
    ),
    "feed_forward.experts.down_proj": ("mlp.experts.{e}.down_proj",),
}


def _spec(fields: Fields) -> DecoderSpec:
    count, is_gguf = num_layers(fields), fields.kind == "gguf"
    num_dense = (
        fields.integer("leading_dense_block_count", 0)
        if is_gguf
        else fields.integer("num_dense_layers", 2)
    )
    if num_dense < 0:
        raise ModelError(f"num_dense_layers must not be below 0, is {num_dense}")
    dense, experts = MLP(fields.integer("intermediate_size", 7168)), _experts(fields)
    return hybrid_spec(fields, [dense if i < num_dense else experts for i in range(count)])


def _experts(fields: Fields) -> Experts:
    width = fields.integer("moe_intermediate_size", 1792)
    if fields.kind == "gguf":
        kind = fields.integer("expert_gating_func", SIGMOID)
        if kind != SIGMOID:
            raise ModelError(
                f"{fields.label('expert_gating_func')} is {kind}: only {SIGMOID}, sigmoid, is "
                "supported"
            )
        renormalise, scale = True, fields.number("expert_weights_scale", 1.0) or 1.0
        has_correction = any(name.endswith(".exp_probs_b.bias") for name in fields.tensors)
    else:
        renormalise = fields.flag("norm_topk_prob", True)
        scale = fields.number("routed_scaling_factor", 1.0)
        has_correction = fields.flag("use_expert_bias", True)
    experts = read_experts(
        fields,
        width,
        renormalise=renormalise,
        top_k=4,
        router="sigmoid",
        has_correction=has_correction,
    )
    return msgspec.structs.replace(experts, weight_scale=scale)


FAMILY = Family(
    name="lfm2_moe",
    huggingface=("Lfm2MoeForCausalLM",),
    gguf=("lfm2moe",),
    spec=_spec,
    hf_names=hf_names(HF_PARTS | _HF_EXPERTS, fused=HF_FUSED | _HF_STACKS, top=HF_TOP),
    gguf_names=gguf_names(
        GGUF_PARTS | {"mlp.router_correction": "exp_probs_b"}, fused=GGUF_FUSED, top=GGUF_TOP
    ),
    aliases=ALIASES | {"tie_embedding": "tie_word_embeddings"},
    defaults={"num_experts": 32},
    tie_word_embeddings=True,
    models="LFM2-8B-A1B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
