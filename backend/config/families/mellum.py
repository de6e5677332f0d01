"""Mellum 2 (JetBrains 2026): Qwen3's experts, with windows that turn by a base of their own."""

from typing import Any

from backend.config.errors import ModelError
from backend.config.expert_fields import expert_width, read_experts
from backend.config.families.family import Family
from backend.config.families.names import EXPERT_PARTS, FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import is_by_layer_type, read_rope, rope_parameters, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm
from backend.config.windows import FULL, SLIDING, layer_windows, window_pattern

_ROPES = {
    FULL: {"rope_type": "default", "rope_theta": 500000.0},
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
}


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf, count = fields.kind == "gguf", num_layers(fields)
    has_bias = not is_gguf and fields.flag("attention_bias")
    ropes = _gguf_ropes(fields) if is_gguf else _ropes(fields)
    parts: dict[str, MLP | Experts] = {"dense": _mlp(fields), "sparse": _experts(fields)}
    layers = tuple(
        Layer(
            Attention(
                ropes[SLIDING if window else FULL],
                window=window,
                qkv_bias=has_bias,
                out_bias=has_bias,
                qk_norm="head",
            ),
            parts[kind],
        )
        for kind, window in zip(_kinds(fields, count), _windows(fields, count), strict=True)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6)))


def _windows(fields: Fields, count: int) -> list[int]:
    if fields.kind == "gguf":
        return layer_windows(fields, count, window_pattern(fields, count, 4))
    fields.default("layer_types", [FULL] * count)
    return layer_windows(fields, count)


def _ropes(fields: Fields) -> dict[str, Rope]:
    fields.default("rope_parameters", _ROPES)
    size = head_dim(fields)
    if not is_by_layer_type(fields):
        raise ModelError(f"rope_parameters must have {FULL} and {SLIDING}")
    ropes = {}
    for kind in (FULL, SLIDING):
        share = rope_parameters(fields, kind).get("partial_rotary_factor", 1.0)
        ropes[kind] = read_rope(fields, int(size * share), kind)
    return ropes


def _gguf_ropes(fields: Fields) -> dict[str, Rope]:
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields), 1.0))
    local = Rope(rope.dim, fields.number("rope.freq_base_swa", rope.theta))
    return {FULL: rope, SLIDING: local}


def _mlp(fields: Fields) -> MLP:
    return MLP(fields.integer("intermediate_size", 7168))


def _experts(fields: Fields) -> Experts:
    if fields.kind == "gguf":
        return read_experts(fields, expert_width(fields), renormalise=True)
    return read_experts(
        fields,
        fields.integer("moe_intermediate_size", 896),
        renormalise=fields.flag("norm_topk_prob", True),
        top_k=8,
    )


def _kinds(fields: Fields, count: int) -> list[str]:
    if fields.kind == "gguf":
        return ["sparse"] * count
    kinds = fields.raw("mlp_layer_types", ["sparse"] * count)
    if (
        not isinstance(kinds, list)
        or len(kinds) != count
        or any(kind not in ("dense", "sparse") for kind in kinds)
    ):
        raise ModelError(f"mlp_layer_types is no list of {count}, each dense or sparse")
    return kinds


_DEFAULTS: dict[str, Any] = {
    "head_dim": 128,
    "sliding_window": 1024,
    "num_experts": 64,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
}

FAMILY = Family(
    name="mellum",
    huggingface=("MellumForCausalLM",),
    gguf=("mellum",),
    spec=_spec,
    hf_names=hf_names(EXPERT_PARTS, fused=FUSED_EXPERTS, ignored=r"mtp\..*"),
    gguf_names=gguf_names(),
    aliases={"num_local_experts": "num_experts"},
    defaults=_DEFAULTS,
    # Of layers that predict further tokens, which are left out.
    harmless=frozenset(
        """
        num_mtp_layers num_nextn_predict_layers mtp_layer_types mtp_mlp_layer_types
        intermediate_size use_sliding_window
        """.split()
    ),
    models="Mellum 2 12B-A2.5B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
