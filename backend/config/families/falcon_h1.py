"""Falcon-H1 (TII 2025): attention and Mamba-2 side by side in every layer, multiplied part by part.

A GGUF file's weights are multiplied already; of a directory's nothing is rounded a second time.
"""

from typing import Any

import msgspec

from backend.config.biases import has_bias, has_out_bias, has_qkv_bias
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.mamba_fields import (
    GGUF_FUSED,
    GGUF_PARTS,
    HARMLESS,
    hf_fused,
    hf_parts,
    read_gguf_mamba,
    read_mamba,
)
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Mamba2, Norm, PartScales


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    mamba = read_gguf_mamba(fields) if is_gguf else _mamba(fields)
    attention = _gguf_attention(fields) if is_gguf else _attention(fields)
    layer = Layer(attention, _gguf_mlp(fields) if is_gguf else _mlp(fields), state=mamba)
    return DecoderSpec(
        (layer,) * num_layers(fields),
        Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5)),
        embedding_scale=_multiplier(fields, "embedding_multiplier"),
        logit_scale=_multiplier(fields, "lm_head_multiplier"),
    )


def _mamba(fields: Fields) -> Mamba2:
    into, out = (_multiplier(fields, f"ssm_{way}_multiplier") for way in ("in", "out"))
    parts = _multipliers(fields, "ssm_multipliers", 5)
    for bias, name, factor in (("mamba_proj_bias", "in", into), ("projectors_bias", "out", out)):
        if fields.flag(bias) and factor != 1.0:
            raise _cannot_multiply(bias, f"ssm_{name}_multiplier")
    gate, x, b, c, step = (into * part for part in parts)
    scales = PartScales(gate, x, b, c, step, out)
    width = fields.integer("mamba_d_ssm", 0)  # null: as wide as it is elsewhere
    mamba = read_mamba(fields, width=width, scales=scales, out_bias="projectors_bias")
    norm = "before_gate" if fields.flag("mamba_norm_before_gate", True) else "behind_gate"
    return msgspec.structs.replace(mamba, norm=norm if fields.flag("mamba_rms_norm") else "none")


def _attention(fields: Fields) -> Attention:
    """What multiplies queries, keys and values multiplies scores, twice, and the result."""
    into, out = (_multiplier(fields, f"attention_{way}_multiplier") for way in ("in", "out"))
    key, size = _multiplier(fields, "key_multiplier"), head_dim(fields)
    is_biased = fields.flag("attention_bias")
    if is_biased and (into, out, key) != (1.0, 1.0, 1.0):
        raise _cannot_multiply("attention_bias", "attention_in_multiplier or its like")
    return Attention(
        read_rope(fields, rotary_dim(fields, size)),
        scale=size**-0.5 * into * into * key,
        qkv_bias=is_biased,
        out_bias=is_biased,
        out_scale=into * out,
    )


def _mlp(fields: Fields) -> MLP:
    gate, down = _multipliers(fields, "mlp_multipliers", 2)
    if gate <= 0:
        raise ModelError(f"mlp_multipliers: {gate} of the gate must be above 0")
    return MLP(
        fields.integer("intermediate_size", 14336),
        has_bias=fields.flag("mlp_bias"),
        gate_scale=gate,
        out_scale=down,
    )


def _gguf_attention(fields: Fields) -> Attention:
    size = head_dim(fields)
    scale = fields.number("attention_multiplier", 0.0)
    if has_out_bias(fields):
        raise ModelError("a bias of attn_output is left out by llama.cpp, and not known here")
    return Attention(
        read_rope(fields, rotary_dim(fields, size)),
        scale=scale or None,
        qkv_bias=has_qkv_bias(fields),
    )


def _gguf_mlp(fields: Fields) -> MLP:
    return MLP(fields.integer("intermediate_size"), has_bias=has_bias(fields, "", "ffn_gate"))


def _multiplier(fields: Fields, name: str) -> float:
    value = fields.number(name, 1.0)
    if value == 0.0:
        raise ModelError(f"{name} is 0: nothing would be left to compute with")
    return value


def _multipliers(fields: Fields, name: str, count: int) -> list[float]:
    found = fields.raw(name, [1.0] * count)
    if (
        not isinstance(found, list)
        or len(found) != count
        or not all(type(each) in (int, float) and each for each in found)
    ):
        raise ModelError(f"{name} is {found!r}, not {count} numbers other than 0")
    return [float(each) for each in found]


def _cannot_multiply(bias: str, multiplier: str) -> ModelError:
    return ModelError(f"{bias}: biases beside {multiplier} are not supported")


_DEFAULTS: dict[str, Any] = {
    "mamba_d_ssm": 1024,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}

FAMILY = Family(
    name="falcon_h1",
    huggingface=("FalconH1ForCausalLM",),
    gguf=("falcon-h1",),
    spec=_spec,
    hf_names=hf_names(
        {
            **hf_parts(),
            "post_attention_layernorm": "pre_ff_layernorm",
            **{f"mlp.{part}_proj": f"feed_forward.{part}_proj" for part in ("gate", "up", "down")},
        },
        fused=hf_fused(),
        top={"model.norm": "final_layernorm"},
    ),
    gguf_names=gguf_names(
        # llama.cpp asks for ffn_norm without .weight, and takes either.
        GGUF_PARTS,
        fused=GGUF_FUSED,
    ),
    defaults=_DEFAULTS,
    harmless=HARMLESS,
    models="Falcon-H1",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
