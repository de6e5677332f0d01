"""Reads models whose layers are delta nets, every fourth gated attention: Qwen3-Next, Qwen3.5."""

import re
from collections.abc import Sequence

from backend.config import sizes
from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.errors import ModelError
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim
from backend.config.spec import MLP, Attention, DecoderSpec, DeltaNet, Experts, Layer, Norm

_LINEAR, _FULL = "linear_attention", "full_attention"
_DRAFTS = r"(model\.)?mtp\..*"
# transformers adds so much to the squares of a key whatever the model says.
_KEY_EPS = 1e-6
# Where images and video stand in a text; of text all of these turn as one position.
_OF_IMAGES = frozenset({"mrope_section", "mrope_interleaved"})

# What transformers' configurations say of fields that a config.json lacks.
DEFAULTS = {
    "num_attention_heads": 16,
    "head_dim": 256,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
# States are float32 whatever a file says of them.
HARMLESS = frozenset({"mtp_num_hidden_layers", "mtp_use_dedicated_embeddings", "mamba_ssm_dtype"})

PARTS: dict[str, str | tuple[str, ...]] = {
    "linear_attn.z_proj": "linear_attn.in_proj_z",
    "linear_attn.b_proj": "linear_attn.in_proj_b",
    "linear_attn.a_proj": "linear_attn.in_proj_a",
    "linear_attn.rates": "linear_attn.A_log",
    "linear_attn.dt": "linear_attn.dt_bias",
}
_QKV = ("linear_attn.q_proj", "linear_attn.k_proj", "linear_attn.v_proj")
_CONVS = ("linear_attn.q_conv", "linear_attn.k_conv", "linear_attn.v_conv")
FUSED: dict[str, tuple[str, ...]] = {"linear_attn.in_proj_qkv": _QKV, "linear_attn.conv1d": _CONVS}
# Of each head, its query and what gates its output.
GROUPED: dict[str, tuple[str, ...]] = {
    "self_attn.q_proj": ("self_attn.q_proj", "self_attn.gate_proj")
}
# Of each key head.
QWEN3_NEXT_GROUPED: dict[str, tuple[str, ...]] = GROUPED | {
    "linear_attn.in_proj_qkvz": (*_QKV, "linear_attn.z_proj"),
    "linear_attn.in_proj_ba": ("linear_attn.b_proj", "linear_attn.a_proj"),
}
IGNORED = _DRAFTS

GGUF_PARTS: dict[str, str | tuple[str, ...]] = {
    "post_attention_layernorm": "post_attention_norm",
    "linear_attn.z_proj": "attn_gate",
    "linear_attn.b_proj": "ssm_beta",
    "linear_attn.a_proj": "ssm_alpha",
    "linear_attn.rates": "ssm_a",
    "linear_attn.dt": "ssm_dt",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out",
}
GGUF_FUSED: dict[str, tuple[str, ...]] = {"attn_qkv": _QKV, "ssm_conv1d": _CONVS}
GGUF_GROUPED: dict[str, tuple[str, ...]] = {"attn_q": ("self_attn.q_proj", "self_attn.gate_proj")}
# ssm_in: of older files.
QWEN3_NEXT_GGUF_GROUPED: dict[str, tuple[str, ...]] = GGUF_GROUPED | {
    "ssm_ba": ("linear_attn.b_proj", "linear_attn.a_proj"),
    "ssm_in": (*_QKV, "linear_attn.z_proj"),
}


def delta_net_spec(
    fields: Fields, mlps: Sequence[MLP | Experts], *, is_interleaved: bool
) -> DecoderSpec:
    """Return what a model computes. mlps: of each layer. is_interleaved: as DeltaNet says, of the
    family's GGUF files; Hugging Face's have neighbours. Raises ModelError."""
    is_gguf = fields.kind == "gguf"
    fields.one_of("hidden_act", ["silu"], "silu")
    fields.must_be("attn_output_gate", True, "attention without a gate is not supported")
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields), 0.25), known=_OF_IMAGES)
    fields.harmless(["rope.dimension_sections"])
    attention = Attention(
        rope,
        qkv_bias=_has_bias(fields),
        out_bias=has_out_bias(fields),
        qk_norm="head",
        is_gated=True,
    )
    delta = _gguf_delta_net(fields, is_interleaved) if is_gguf else _delta_net(fields)
    layers = tuple(
        Layer(None if is_linear else attention, mlp, state=delta if is_linear else None)
        for is_linear, mlp in zip(_are_linear(fields, len(mlps)), mlps, strict=True)
    )
    norm = Norm(fields.number("rms_norm_eps", 1e-6), offset=0.0 if is_gguf else 1.0)
    return DecoderSpec(layers, norm, draft_layers=_num_drafts(fields))


def num_layers(fields: Fields) -> int:
    """Return the layers that every token goes through. GGUF files count those that draft, too."""
    count = sizes.num_layers(fields)
    return count - _num_drafts(fields) if fields.kind == "gguf" else count


def _num_drafts(fields: Fields) -> int:
    if fields.kind == "gguf":
        return fields.integer("nextn_predict_layers", 0)
    has_drafts = any(re.fullmatch(_DRAFTS, name) for name in fields.tensors)
    return max(1, fields.integer("mtp_num_hidden_layers", 1)) if has_drafts else 0


def _has_bias(fields: Fields) -> bool:
    """Whether attention's projections have biases, in a GGUF file those of the first layer with
    attention."""
    if fields.kind == "gguf":
        return any(name.endswith(".attn_q.bias") for name in fields.tensors)
    return has_qkv_bias(fields)


def _delta_net(fields: Fields) -> DeltaNet:
    return DeltaNet(
        fields.integer("linear_num_key_heads"),
        fields.integer("linear_num_value_heads"),
        fields.integer("linear_key_head_dim"),
        fields.integer("linear_value_head_dim"),
        fields.integer("linear_conv_kernel_dim"),
        _KEY_EPS,
        has_log_rates=True,
    )


def _gguf_delta_net(fields: Fields, is_interleaved: bool) -> DeltaNet:
    num_values, inner = fields.integer("ssm.time_step_rank"), fields.integer("ssm.inner_size")
    dim = fields.integer("ssm.state_size")
    if inner != dim * num_values:
        raise ModelError(
            f"{fields.label('ssm.inner_size')} is {inner}: only values as wide as keys are "
            f"supported, {num_values} heads of {dim}"
        )
    return DeltaNet(
        fields.integer("ssm.group_count"),
        num_values,
        dim,
        dim,
        fields.integer("ssm.conv_kernel"),
        # llama.cpp takes that of norms.
        fields.number("rms_norm_eps"),
        has_log_rates=False,
        is_interleaved=is_interleaved,
    )


def _are_linear(fields: Fields, count: int) -> list[bool]:
    """Return of each layer whether it is a delta net. Raises ModelError."""
    interval = fields.integer("full_attention_interval", 4)
    if interval <= 0:
        raise ModelError(f"{fields.label('full_attention_interval')} must be above 0")
    by_interval = [(index + 1) % interval != 0 for index in range(count)]
    if fields.kind == "gguf":
        return _are_recurrent(fields, count) or by_interval
    types = fields.raw("layer_types")
    if types is None:
        return by_interval
    if not isinstance(types, list) or len(types) != count:
        raise ModelError(f"layer_types is no list of {count}, one for each layer")
    if unknown := sorted({str(kind) for kind in types} - {_LINEAR, _FULL}):
        raise ModelError(f"layer_types: {unknown[0]!r} is not supported; {_LINEAR} and {_FULL}")
    return [kind == _LINEAR for kind in types]


def _are_recurrent(fields: Fields, count: int) -> list[bool]:
    found = fields.raw("attention.recurrent_layers")
    if found is None:
        return []
    if isinstance(found, bool):  # what a list says of every layer
        return [found] * count
    if not isinstance(found, list) or len(found) < count:
        raise ModelError(
            f"{fields.label('attention.recurrent_layers')} is no list of {count} layers"
        )
    return [bool(each) for each in found[:count]]
