"""Nemotron-H and Nemotron 3 (NVIDIA 2025): each layer is Mamba-2, attention, an MLP or experts."""

import re
from typing import Any

import msgspec

from backend.config.activations import read_activation
from backend.config.errors import ModelError
from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import read_deepseek_experts, read_gguf_experts
from backend.config.mamba_fields import (
    FULL,
    GGUF_FUSED,
    GGUF_PARTS,
    HARMLESS,
    MAMBA,
    OLDER,
    hf_fused,
    hf_parts,
    of_layers,
    read_gguf_mamba,
    say_kv_heads,
    step_limits,
)
from backend.config.sizes import num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Mamba2, Norm

_MLP, _EXPERTS = "mlp", "moe"
# hybrid_override_pattern of older files.
_LETTERS = {"M": MAMBA, "*": FULL, "-": _MLP, "E": _EXPERTS}
_DRAFTS = r"(model\.)?mtp\..*"
_OF_EXPERTS = (
    "num_experts",
    "num_experts_per_tok",
    "n_shared_experts",
    "moe_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "moe_latent_size",
    "norm_topk_prob",
    "routed_scaling_factor",
    "n_group",
    "topk_group",
)


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    kinds = _gguf_kinds(fields) if is_gguf else _kinds(fields)
    parts: dict[str, Layer] = {}
    if MAMBA in kinds:
        parts[MAMBA] = Layer(state=read_gguf_mamba(fields) if is_gguf else _mamba(fields))
    if FULL in kinds:
        parts[FULL] = Layer(_attention(fields))
    if _MLP in kinds:
        parts[_MLP] = Layer(None, _mlp(fields))
    if _EXPERTS in kinds:
        parts[_EXPERTS] = Layer(None, _gguf_experts(fields) if is_gguf else _experts(fields))
    fields.harmless(_OF_EXPERTS)
    eps = fields.number("rms_norm_eps" if "rms_norm_eps" in fields else "layer_norm_eps", 1e-5)
    fields.harmless(["layer_norm_eps"])
    return DecoderSpec(
        tuple(parts[kind] for kind in kinds), Norm(eps), draft_layers=_num_drafts(fields)
    )


def _mamba(fields: Fields) -> Mamba2:
    """transformers 5.23 raises steps of prompts, not those of an answer, to time_step_min, which
    says how training began; NVIDIA's code does not."""
    fields.one_of("mamba_hidden_act", ["silu"], "silu")
    has_bias = fields.flag("use_bias")
    steps_from, steps_to = step_limits(fields)
    return Mamba2(
        fields.integer("mamba_num_heads", 128),
        fields.integer("mamba_head_dim", 64),
        fields.integer("n_groups", 8),
        fields.integer("ssm_state_size", 128),
        fields.integer("conv_kernel", 4),
        fields.flag("use_conv_bias", True),
        has_bias,
        has_bias,
        steps_from=steps_from,
        steps_to=steps_to,
    )


def _attention(fields: Fields) -> Attention:
    fields.must_be("sliding_window", None, "windows are not known for nemotron_h models")
    scale = fields.number("attention_multiplier", 0.0) if fields.kind == "gguf" else 0.0
    return Attention(
        rope=None,
        scale=scale or None,
        qkv_bias=_has_bias(fields, "attention_bias", "attn_q"),
        out_bias=_has_bias(fields, "attention_bias", "attn_output"),
    )


def _mlp(fields: Fields) -> MLP:
    is_gguf = fields.kind == "gguf"
    width = fields.raw("intermediate_size", 21504)
    if isinstance(width, list):
        widths = {each for each in width if each}
        if len(widths) > 1:
            raise ModelError(f"{fields.label('intermediate_size')}: MLPs of several widths")
        fields.add("intermediate_size", widths.pop())
    return MLP(
        fields.integer("intermediate_size", 21504),
        "relu2" if is_gguf else read_activation(fields, "mlp_hidden_act", "relu2"),
        is_gated=False,
        has_bias=_has_bias(fields, "mlp_bias", "ffn_up"),
    )


def _experts(fields: Fields) -> Experts:
    fields.must_be("mlp_bias", False, "biases of experts are not supported")
    experts = read_experts(
        fields,
        fields.integer("moe_intermediate_size", 7688),
        renormalise=fields.flag("norm_topk_prob", True),
        # However many n_shared_experts says there are.
        shared_width=fields.integer("moe_shared_expert_intermediate_size", 7688),
        router="sigmoid",
        has_correction=True,
    )
    return msgspec.structs.replace(
        read_deepseek_experts(fields, experts),
        activation=read_activation(fields, "mlp_hidden_act", "relu2"),
        is_gated=False,
        latent_width=fields.integer("moe_latent_size", 0),
    )


def _gguf_experts(fields: Fields) -> Experts:
    widths, chosen = of_layers(fields, "intermediate_size", 1), "num_experts_per_tok"
    if "moe_intermediate_size" not in fields:  # as llama.cpp reads older files
        fields.add("moe_intermediate_size", max(widths) // fields.integer(chosen))
    fields.harmless(["expert_shared_count"])
    shared = fields.integer("shared_expert_intermediate_size")
    return msgspec.structs.replace(
        read_gguf_experts(fields, "sigmoid"),
        activation="relu2",
        is_gated=False,
        shared_width=shared,
        latent_width=fields.integer("moe_latent_size", 0),
    )


def _has_bias(fields: Fields, flag: str, tensor: str) -> bool:
    if fields.kind == "gguf":
        return any(name.endswith(f".{tensor}.bias") for name in fields.tensors)
    return fields.flag(flag)


def _kinds(fields: Fields) -> list[str]:
    """Return what each layer is; num_hidden_layers of older files is how many the pattern has."""
    found = fields.raw("layer_types")
    pattern = fields.raw("hybrid_override_pattern")
    if found is None and isinstance(pattern, str):
        found = [_LETTERS.get(letter, letter) for letter in pattern]
    if found is None:
        found = [MAMBA, _EXPERTS, FULL, _MLP]
    if not isinstance(found, list) or not found:
        raise ModelError("layers_block_type is no list of what each layer is")
    kinds = [OLDER.get(str(kind), str(kind)) for kind in found]
    if unknown := sorted(set(kinds) - set(_LETTERS.values())):
        raise ModelError(
            f"layers_block_type: {unknown[0]!r} is not supported; {', '.join(_LETTERS.values())}"
        )
    fields.harmless(["num_hidden_layers"])
    return kinds


def _gguf_kinds(fields: Fields) -> list[str]:
    """Layers without keys and MLP are Mamba-2, those without an MLP attend."""
    count = num_layers(fields) - fields.integer("nextn_predict_layers", 0)
    keys = of_layers(fields, "num_key_value_heads", count)[:count]
    widths = of_layers(fields, "intermediate_size", count)[:count]
    say_kv_heads(fields, keys)
    feeds = _EXPERTS if fields.integer("num_experts", 0) else _MLP
    return [
        feeds if width else FULL if num else MAMBA for num, width in zip(keys, widths, strict=True)
    ]


def _num_drafts(fields: Fields) -> int:
    if fields.kind == "gguf":
        return fields.integer("nextn_predict_layers", 0)
    has_drafts = any(re.fullmatch(_DRAFTS, name) for name in fields.tensors)
    return max(1, fields.integer("num_nextn_predict_layers", 1)) if has_drafts else 0


_DEFAULTS: dict[str, Any] = {
    "num_experts": 8,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 4096,
}
# Of training, of caches and of layers that draft; rotation, which attention here has none of;
# mamba_proj_bias and norm_eps, which nobody reads.
_HARMLESS = HARMLESS | frozenset(
    """
    expand residual_in_fp32 rescale_prenorm_residual time_step_min time_step_max time_step_floor
    use_mamba_kernels mamba_ssm_cache_dtype moe_shared_expert_overlap mtp_layers_block_type
    mtp_hybrid_override_pattern num_nextn_predict_layers rope_theta rope_parameters
    rope_scaling partial_rotary_factor mamba_proj_bias norm_eps attention_head_dim rope.freq_base
    rope.dimension_count rope.scaling.finetuned intermediate_size mlp_bias mlp_hidden_act
    """.split()
)
_PARTS: dict[str, str | tuple[str, ...]] = {
    **hf_parts("mixer"),
    "input_layernorm": "norm",
    "post_attention_layernorm": "norm",
    **{f"self_attn.{part}_proj": f"mixer.{part}_proj" for part in "qkvo"},
    "mlp.up_proj": "mixer.up_proj",
    "mlp.down_proj": "mixer.down_proj",
    "mlp.router": "mixer.gate",
    "mlp.router_correction": "mixer.gate.e_score_correction",
    "mlp.shared.up_proj": "mixer.shared_experts.up_proj",
    "mlp.shared.down_proj": "mixer.shared_experts.down_proj",
    "mlp.experts.{e}.up_proj": "mixer.experts.{e}.up_proj",
    "mlp.experts.{e}.down_proj": "mixer.experts.{e}.down_proj",
    "mlp.latent_in": "mixer.fc1_latent_proj",
    "mlp.latent_out": "mixer.fc2_latent_proj",
}

FAMILY = Family(
    name="nemotron_h",
    huggingface=("NemotronHForCausalLM",),
    gguf=("nemotron_h", "nemotron_h_moe"),
    spec=_spec,
    hf_names=hf_names(
        _PARTS,
        fused={
            **hf_fused("mixer"),
            "mixer.experts.up_proj": ("mlp.experts.{e}.up_proj",),
            "mixer.experts.down_proj": ("mlp.experts.{e}.down_proj",),
        },
        top={"model.embed_tokens": "embeddings", "model.norm": "norm_f"},
        prefixes=("backbone.", "model."),
        ignored=_DRAFTS,
    ),
    gguf_names=gguf_names(
        {
            **GGUF_PARTS,
            "post_attention_layernorm": "attn_norm",
            "mlp.router_correction": "exp_probs_b",
            "mlp.latent_in": "ffn_latent_down",
            "mlp.latent_out": "ffn_latent_up",
        },
        fused=GGUF_FUSED,
    ),
    aliases={
        "layer_norm_epsilon": "rms_norm_eps",
        "n_routed_experts": "num_experts",
        "layers_block_type": "layer_types",
        "mamba_n_groups": "n_groups",
        "mamba_d_conv": "conv_kernel",
        "mamba_conv_bias": "use_conv_bias",
        "mamba_dt_limit": "time_step_limit",
    },
    defaults=_DEFAULTS,
    harmless=_HARMLESS,
    own_fields=frozenset({"expert_group_count"}),
    models="Nemotron-H, Nemotron Nano 2, Nemotron 3",
    checked="logits of tiny GGUF files beside llama.cpp",
)
