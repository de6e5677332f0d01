"""Qwen3-Next (Qwen 2025): what became Qwen3.5, its projections stored key head by key head."""

from backend.config.expert_fields import are_sparse
from backend.config.families.delta_nets import (
    DEFAULTS,
    FUSED,
    GGUF_FUSED,
    GGUF_PARTS,
    HARMLESS,
    IGNORED,
    PARTS,
    QWEN3_NEXT_GGUF_GROUPED,
    QWEN3_NEXT_GROUPED,
    delta_net_spec,
    num_layers,
)
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.families.qwen3_5_moe import SHARED_PARTS, shared_experts
from backend.config.fields import Fields
from backend.config.spec import MLP, DecoderSpec, Experts


def _spec(fields: Fields) -> DecoderSpec:
    count = num_layers(fields)
    renormalise = fields.flag("norm_topk_prob", True)
    experts = shared_experts(fields, renormalise=renormalise, top_k=10)
    sparse = [True] * count if fields.kind == "gguf" else are_sparse(fields, count)
    dense = experts if all(sparse) else MLP(fields.integer("intermediate_size"))
    mlps: list[MLP | Experts] = [experts if is_sparse else dense for is_sparse in sparse]
    return delta_net_spec(fields, mlps, is_interleaved=False)


FAMILY = Family(
    name="qwen3_next",
    huggingface=("Qwen3NextForCausalLM",),
    gguf=("qwen3next",),
    spec=_spec,
    hf_names=hf_names(
        PARTS | SHARED_PARTS,
        fused=FUSED | FUSED_EXPERTS,
        ignored=IGNORED,
        grouped=QWEN3_NEXT_GROUPED,
    ),
    gguf_names=gguf_names(GGUF_PARTS, fused=GGUF_FUSED, grouped=QWEN3_NEXT_GGUF_GROUPED),
    aliases={"num_local_experts": "num_experts"},
    defaults=DEFAULTS
    | {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 48,
        "num_key_value_heads": 2,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "num_experts": 512,
    },
    harmless=HARMLESS | {"intermediate_size"},
    models="Qwen3-Next, Qwen3-Coder-Next",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
