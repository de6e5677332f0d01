"""Granite with windows (IBM 2026): three layers of four see a window; every head has a sink."""

from typing import Any

import msgspec

from backend.config.activations import read_activation
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.granite import attention_scale, multiplier
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    count, has_bias = num_layers(fields), fields.flag("attention_bias")
    attention = Attention(
        None,
        scale=attention_scale(fields),
        qkv_bias=has_bias,
        out_bias=has_bias,
        sinks=True,
    )
    mlp = MLP(
        fields.integer("intermediate_size"),
        read_activation(fields, "hidden_act", "silu"),
        has_bias=fields.flag("mlp_bias"),
    )
    # The first of every four layers sees all tokens.
    windows = layer_windows(fields, count, [bool(index % 4) for index in range(count)])
    residual = multiplier(fields, "residual_multiplier")
    layers = tuple(
        Layer(
            msgspec.structs.replace(attention, rope=rope, window=window),
            mlp,
            residual_scale=residual,
        )
        for rope, window in zip(_ropes(fields, count), windows, strict=True)
    )
    return DecoderSpec(
        layers,
        Norm(fields.number("rms_norm_eps", 1e-5)),
        embedding_scale=multiplier(fields, "embedding_multiplier"),
        logit_scale=1 / multiplier(fields, "logits_scaling"),
    )


def _ropes(fields: Fields, count: int) -> list[Rope | None]:
    """Return how each layer turns: by a base of its own, or, at 0, not at all."""
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    bases = fields.raw("layer_rope_theta", [rope.theta] * count)
    if (
        not isinstance(bases, list)
        or len(bases) != count
        or not all(type(base) in (int, float) and base >= 0 for base in bases)
    ):
        raise ModelError(f"layer_rope_theta is no list of {count} bases, one for each layer")
    return [msgspec.structs.replace(rope, theta=float(base)) if base else None for base in bases]


_DEFAULTS: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 8192,
    "num_hidden_layers": 24,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
    "sliding_window": 128,
    "max_position_embeddings": 8192,
}

FAMILY = Family(
    name="granite_swa",
    huggingface=("GraniteSWAForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults=_DEFAULTS,
    tie_word_embeddings=True,
    models="Granite with windows",
)
