"""Qwen3-MoE (Yang et al. 2025): experts, and norms of queries and keys instead of biases."""

from backend.config.expert_fields import are_sparse, expert_width, read_experts
from backend.config.families.family import Family
from backend.config.families.names import EXPERT_PARTS, FUSED_EXPERTS, gguf_names, hf_names
from backend.config.families.qwen2 import GGUF_OF_IMAGES, OF_IMAGES, is_seeing
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    if is_gguf:
        fields.harmless(GGUF_OF_IMAGES)
    theta = 5e5 if is_seeing(fields) else 1e4
    has_bias = not is_gguf and fields.flag("attention_bias")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=theta, known=OF_IMAGES),
        window=0 if is_gguf else _window(fields),
        qkv_bias=has_bias,
        out_bias=has_bias,
        qk_norm="head",
    )
    experts = _experts(fields)
    layers = tuple(
        Layer(attention, experts if is_sparse else MLP(fields.integer("intermediate_size")))
        for is_sparse in are_sparse(fields, num_layers(fields))
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6)))


def _experts(fields: Fields) -> Experts:
    fields.harmless(["intermediate_size"])  # of layers without experts, which there may not be
    if fields.kind == "gguf":
        # llama.cpp always makes the weights sum to 1 here, and files do not say.
        return read_experts(fields, expert_width(fields), renormalise=True)
    return read_experts(
        fields,
        fields.integer("moe_intermediate_size", 768),
        renormalise=fields.flag("norm_topk_prob") or _sees(fields),
        top_k=8,
    )


def _sees(fields: Fields) -> bool:
    """Whether it is the decoder of Qwen3-VL, whose weights always sum to 1."""
    return "Qwen3VLMoeForConditionalGeneration" in fields.raw("architectures", [])


def _window(fields: Fields) -> int:
    """Return the window of all layers: max_window_layers is Qwen3's, and nobody reads it here."""
    fields.harmless(["sliding_window", "max_window_layers"])
    return fields.integer("sliding_window", 4096) if fields.flag("use_sliding_window") else 0


FAMILY = Family(
    name="qwen3_moe",
    huggingface=("Qwen3MoeForCausalLM", "Qwen3VLMoeForConditionalGeneration"),
    gguf=("qwen3moe", "qwen3vlmoe"),
    spec=_spec,
    hf_names=hf_names(EXPERT_PARTS, fused=FUSED_EXPERTS),
    gguf_names=gguf_names(),
    aliases={"num_local_experts": "num_experts"},
    models="Qwen3-30B-A3B, Qwen3-Coder-30B-A3B; Qwen3-VL-30B-A3B (text)",
)
