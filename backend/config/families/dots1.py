"""dots.llm1 (rednote 2025): Qwen3's attention, DeepSeek V3's experts behind some dense layers."""

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import (
    GGUF_ROUTER_PARTS,
    ROUTER_PARTS,
    read_gguf_experts,
    read_routed_experts,
)
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import hf_layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    qkv_bias, out_bias = has_qkv_bias(fields), has_out_bias(fields)
    experts = read_gguf_experts(fields) if is_gguf else read_routed_experts(fields, 1408)
    mlp = MLP(fields.integer("intermediate_size", None if is_gguf else 10944))
    dense = fields.integer("leading_dense_block_count" if is_gguf else "first_k_dense_replace", 0)
    layers = tuple(
        Layer(
            Attention(rope, window=window, qkv_bias=qkv_bias, out_bias=out_bias, qk_norm="head"),
            experts if index >= dense else mlp,
        )
        for index, window in enumerate(
            hf_layer_windows(fields, num_layers(fields), has_switch=True)
        )
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6)))


FAMILY = Family(
    name="dots1",
    huggingface=("Dots1ForCausalLM",),
    gguf=("dots1",),
    spec=_spec,
    hf_names=hf_names(ROUTER_PARTS, fused=FUSED_EXPERTS),
    gguf_names=gguf_names(GGUF_ROUTER_PARTS),
    aliases={"n_routed_experts": "num_experts"},
    # Layers have a window from max_window_layers on: none of those that are published.
    defaults={"norm_topk_prob": False, "sliding_window": 4096, "max_window_layers": 62},
    own_fields=frozenset({"expert_group_count"}),
    models="dots.llm1",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
