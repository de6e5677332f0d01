"""Qwen1.5-MoE and Qwen2-MoE (Yang et al. 2024): experts, and one that every token goes through."""

from backend.config.errors import ModelError
from backend.config.expert_fields import are_sparse, expert_width, read_experts
from backend.config.families.family import Family
from backend.config.families.names import EXPERT_PARTS, FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm
from backend.config.windows import SLIDING, layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    has_bias = is_gguf or fields.flag("qkv_bias", True)
    experts = _experts(fields)
    layers = tuple(
        Layer(
            Attention(rope, window=window, qkv_bias=has_bias),
            experts if is_sparse else MLP(fields.integer("intermediate_size")),
        )
        for window, is_sparse in zip(
            _windows(fields), are_sparse(fields, num_layers(fields)), strict=True
        )
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6)))


def _experts(fields: Fields) -> Experts:
    fields.harmless(["intermediate_size"])  # of layers without experts, which there may not be
    if fields.kind == "gguf":
        # llama.cpp never makes the weights sum to 1 here, and files do not say.
        shared = fields.raw("shared_expert_intermediate_size") or fields.integer(
            "intermediate_size"
        )
        return read_experts(
            fields,
            expert_width(fields),
            renormalise=False,
            shared_width=shared,
            shared_gate=True,
        )
    return read_experts(
        fields,
        fields.integer("moe_intermediate_size", 1408),
        renormalise=fields.flag("norm_topk_prob"),
        top_k=4,
        shared_width=fields.integer("shared_expert_intermediate_size", 5632),
        shared_gate=True,
    )


def _windows(fields: Fields) -> list[int]:
    """Return the window of each layer: not as Qwen2 has it, the first layers slide, by turns."""
    count = num_layers(fields)
    if fields.kind == "gguf":
        return [0] * count
    is_used = fields.flag("use_sliding_window")
    fields.harmless(["max_window_layers", "sliding_window", "layer_types"])
    types = fields.raw("layer_types")
    if not is_used:
        if isinstance(types, list) and SLIDING in types:
            raise ModelError(f"layer_types says {SLIDING}, and use_sliding_window is false")
        return [0] * count
    if types is not None:
        return layer_windows(fields, count, has_switch=True)
    window, last = fields.integer("sliding_window", 4096), fields.integer("max_window_layers", 28)
    return [window if index % 2 == 0 and index < last else 0 for index in range(count)]


FAMILY = Family(
    name="qwen2_moe",
    huggingface=("Qwen2MoeForCausalLM",),
    gguf=("qwen2moe",),
    spec=_spec,
    hf_names=hf_names(
        EXPERT_PARTS
        | {
            "mlp.shared.gate_proj": "mlp.shared_expert.gate_proj",
            "mlp.shared.up_proj": "mlp.shared_expert.up_proj",
            "mlp.shared.down_proj": "mlp.shared_expert.down_proj",
            "mlp.shared_gate": "mlp.shared_expert_gate",
        },
        fused=FUSED_EXPERTS,
    ),
    gguf_names=gguf_names(),
    aliases={"num_local_experts": "num_experts"},
    models="Qwen1.5-MoE, Qwen2-57B-A14B",
)
