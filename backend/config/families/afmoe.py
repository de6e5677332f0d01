"""Trinity (Arcee 2025): gated attention, windows that alone turn, experts with a bias on scores."""

import math

import msgspec

from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import GGUF_ROUTER_PARTS, ROUTER_PARTS, read_gguf_experts
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm
from backend.config.windows import layer_windows, window_pattern

_EVERY = "global_attn_every_n_layers"


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf, count = fields.kind == "gguf", num_layers(fields)
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    pattern = window_pattern(fields, count, 4) if is_gguf else fields.integer(_EVERY, 4)
    windows = layer_windows(fields, count, pattern, default=0 if is_gguf else 1024)
    experts = read_gguf_experts(fields, "sigmoid") if is_gguf else _experts(fields)
    dense = fields.integer("leading_dense_block_count" if is_gguf else "num_dense_layers", 1)
    mlp = MLP(fields.integer("intermediate_size"))
    fields.must_be("attention_bias", False, "gates without biases beside some are not known")
    layers = tuple(
        Layer(
            Attention(
                rope if window else None,
                window=window,
                qk_norm="head",
                is_gated=True,
            ),
            experts if index >= dense else mlp,
            norms="around",
        )
        for index, window in enumerate(windows)
    )
    # llama.cpp multiplies whatever the directory said.
    is_scaled = is_gguf or fields.flag("mup_enabled")
    return DecoderSpec(
        layers,
        Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5)),
        embedding_scale=math.sqrt(fields.integer("hidden_size")) if is_scaled else 1.0,
    )


def _experts(fields: Fields) -> Experts:
    # Named in its files; transformers knows one way alone.
    for field, only in (("score_func", "sigmoid"), ("route_norm", True), ("n_group", 1)):
        fields.must_be(field, only, f"only {only} is known in this family")
    for field in ("topk_group", "num_expert_groups", "num_limited_groups"):
        fields.must_be(field, 1, "experts in groups are not known in this family")
    width = fields.integer("moe_intermediate_size", 1408)
    experts = read_experts(
        fields,
        width,
        renormalise=True,
        top_k=6,
        shared_width=width * fields.integer("num_shared_experts", 2),
        router="sigmoid",
        has_correction=True,
    )
    return msgspec.structs.replace(experts, weight_scale=fields.number("route_scale", 1.0))


FAMILY = Family(
    name="afmoe",
    huggingface=("AfmoeForCausalLM",),
    gguf=("afmoe",),
    spec=_spec,
    hf_names=hf_names(
        ROUTER_PARTS
        | {
            "attention_output_norm": "post_attention_layernorm",
            "post_attention_layernorm": "pre_mlp_layernorm",
            "mlp_output_norm": "post_mlp_layernorm",
            "mlp.router": "mlp.router.gate",
            "mlp.router_correction": "mlp.expert",
        },
        fused=FUSED_EXPERTS,
    ),
    gguf_names=gguf_names(GGUF_ROUTER_PARTS | {"self_attn.gate_proj": "attn_gate"}),
    # What AfmoeConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 200192,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "head_dim": 128,
        "max_position_embeddings": 16384,
        "num_experts": 64,
    },
    harmless=frozenset({"load_balance_coeff", "use_grouped_mm"}),
    models="Trinity Nano, Mini, Large",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
