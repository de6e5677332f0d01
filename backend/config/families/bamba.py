"""Bamba (IBM, Princeton and UIUC 2025): Mamba-2 in most layers, and some attention."""

from typing import Any

from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.mamba_fields import HARMLESS, hf_fused, hf_parts, read_mamba
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm

_TURNING = 0.5


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    size, has_bias = head_dim(fields), fields.flag("attention_bias")
    # transformers overrides what a file says outside of the parameters.
    fields.must_be("partial_rotary_factor", _TURNING, "half of each head turns")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, size, _TURNING)), qkv_bias=has_bias, out_bias=has_bias
    )
    mlp = MLP(fields.integer("intermediate_size"), has_bias=fields.flag("mlp_bias"))
    attends, mamba = Layer(attention, mlp), Layer(None, mlp, state=read_mamba(fields))
    indices = _attending(fields)
    layers = tuple(attends if index in indices else mamba for index in range(num_layers(fields)))
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-5)))


def _attending(fields: Fields) -> list[int]:
    found = fields.raw("attn_layer_indices", [])
    if not isinstance(found, list) or not all(type(index) is int for index in found):
        raise ModelError(f"attn_layer_indices is {found!r}, not a list of layers' numbers")
    return found


_DEFAULTS: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 262144,
}

FAMILY = Family(
    name="bamba",
    huggingface=("BambaForCausalLM",),
    gguf=(),
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
    gguf_names=gguf_names(),
    defaults=_DEFAULTS,
    # layer_types: what attn_layer_indices says, as transformers writes it.
    harmless=HARMLESS | {"z_loss_coefficient", "layers_block_type", "layer_types"},
    models="Bamba 9B",
)
