"""gpt-oss (OpenAI 2025): sinks, windows by turns, experts with biases and clamped gates."""

from backend.config.expert_fields import expert_width, read_experts
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import Attention, DecoderSpec, Experts, GateClamp, Layer, Norm
from backend.config.windows import layer_windows, window_pattern

# What transformers' GptOssConfig takes where a file has no parameters.
_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "original_max_position_embeddings": 4096,
    "truncate": False,
}


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    size = head_dim(fields)
    if not is_gguf and "rope_scaling" not in fields and "rope_parameters" not in fields:
        fields.add("rope_parameters", _ROPE)
    # A GGUF file does not say that YaRN's ramp ends between frequencies, and llama.cpp rounds.
    rope = read_rope(fields, rotary_dim(fields, size), theta=150000.0, truncate=not is_gguf)
    has_bias = is_gguf or fields.flag("attention_bias", True)
    experts = _experts(fields)
    pattern = window_pattern(fields, num_layers(fields), 2) if is_gguf else 2
    layers = tuple(
        Layer(
            Attention(rope, window=window, qkv_bias=has_bias, out_bias=has_bias, sinks=True),
            experts,
        )
        for window in layer_windows(fields, num_layers(fields), pattern)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5)))


def _experts(fields: Fields) -> Experts:
    is_gguf = fields.kind == "gguf"
    if is_gguf:
        fields.harmless(["intermediate_size"])  # the same again
    # Of OpenAI's own configuration, beside the names that transformers reads.
    fields.harmless(["initial_context_length"])
    chosen = fields.integer("num_experts_per_tok", None if is_gguf else 4)
    fields.must_be("experts_per_token", chosen, f"num_experts_per_tok is {chosen}")
    clamp = GateClamp(
        fields.number("swiglu_limit", 7.0), fields.number("swiglu_alpha", 1.702), offset=1.0
    )
    return read_experts(
        fields,
        expert_width(fields) if is_gguf else fields.integer("intermediate_size"),
        # The softmax of the chosen scores alone: that of all, renormalised.
        renormalise=True,
        top_k=4,
        clamp=clamp,
        has_bias=True,
        router_bias=True,
    )


_GATE, _UP, _DOWN = (f"mlp.experts.{{e}}.{name}_proj" for name in ("gate", "up", "down"))

FAMILY = Family(
    name="gpt_oss",
    huggingface=("GptOssForCausalLM",),
    gguf=("gpt-oss",),
    spec=_spec,
    hf_names=hf_names(
        fused={"mlp.experts.down_proj": (_DOWN,)},
        interleaved={"mlp.experts.gate_up_proj": (_GATE, _UP)},
        transposed=frozenset({"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}),
    ),
    gguf_names=gguf_names({"post_attention_layernorm": "post_attention_norm"}),
    aliases={"num_local_experts": "num_experts"},
    defaults={"sliding_window": 128, "head_dim": 64},
    models="gpt-oss-20b, gpt-oss-120b",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
