"""Qwen3.5 with experts, and 3.6 and 3.8 after it: one of them shared by all tokens, gated."""

from backend.config.expert_fields import expert_width, read_experts
from backend.config.families.delta_nets import (
    DEFAULTS,
    FUSED,
    GGUF_FUSED,
    GGUF_GROUPED,
    GGUF_PARTS,
    GROUPED,
    HARMLESS,
    IGNORED,
    PARTS,
    delta_net_spec,
    num_layers,
)
from backend.config.families.family import Family
from backend.config.families.names import EXPERT_PARTS, FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.spec import DecoderSpec, Experts

SHARED_PARTS: dict[str, str | tuple[str, ...]] = EXPERT_PARTS | {
    "mlp.shared.gate_proj": "mlp.shared_expert.gate_proj",
    "mlp.shared.up_proj": "mlp.shared_expert.up_proj",
    "mlp.shared.down_proj": "mlp.shared_expert.down_proj",
    "mlp.shared_gate": "mlp.shared_expert_gate",
}


def _spec(fields: Fields) -> DecoderSpec:
    fields.must_be("mlp_only_layers", [], "Qwen3.5 of this kind has experts in every layer")
    fields.must_be("norm_topk_prob", True, "the weights of experts sum to 1 in these models")
    mlps = [shared_experts(fields, renormalise=True, top_k=8)] * num_layers(fields)
    return delta_net_spec(fields, mlps, is_interleaved=True)


def shared_experts(fields: Fields, *, renormalise: bool, top_k: int) -> Experts:
    """Return the experts of a layer, one of them shared."""
    is_gguf = fields.kind == "gguf"
    width = expert_width(fields) if is_gguf else fields.integer("moe_intermediate_size")
    # A GGUF file that does not say has the MLP's.
    fallback = fields.integer("intermediate_size", width) if is_gguf else None
    return read_experts(
        fields,
        width,
        renormalise=renormalise,
        top_k=top_k,
        shared_width=fields.integer("shared_expert_intermediate_size", fallback),
        shared_gate=True,
    )


FAMILY = Family(
    name="qwen3_5_moe",
    huggingface=("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
    gguf=("qwen35moe",),
    spec=_spec,
    hf_names=hf_names(
        PARTS | SHARED_PARTS, fused=FUSED | FUSED_EXPERTS, ignored=IGNORED, grouped=GROUPED
    ),
    gguf_names=gguf_names(GGUF_PARTS, fused=GGUF_FUSED, grouped=GGUF_GROUPED),
    aliases={"num_local_experts": "num_experts"},
    defaults=DEFAULTS
    | {
        "vocab_size": 248320,
        "hidden_size": 2048,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "num_experts": 256,
    },
    harmless=HARMLESS | {"intermediate_size"},
    models="Qwen3.5, Qwen3.6, Qwen3.8 with experts (text)",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
