"""Mamba-2 (Dao and Gu 2024), Codestral Mamba: states in every layer, no attention and no MLP."""

from typing import Any

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
    step_limits,
)
from backend.config.sizes import num_layers
from backend.config.spec import DecoderSpec, Layer, Mamba2, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    mamba = read_gguf_mamba(fields) if is_gguf else _mamba(fields)
    # Nothing attends: what there are heads of is the states.
    fields.add("num_attention_heads", mamba.num_heads)
    fields.add("num_key_value_heads", mamba.num_heads)
    fields.add("head_dim", mamba.head_dim)
    norm = Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5))
    return DecoderSpec((Layer(state=mamba),) * num_layers(fields), norm)


def _mamba(fields: Fields) -> Mamba2:
    fields.one_of("hidden_act", ["silu"], "silu")
    num_heads, head_dim = fields.integer("num_heads", 128), fields.integer("head_dim", 64)
    width = fields.integer("expand", 2) * fields.integer("hidden_size")
    if num_heads * head_dim != width:
        raise ModelError(
            f"num_heads {num_heads} and head_dim {head_dim}: heads together must have {width} "
            "numbers, expand times hidden_size"
        )
    has_bias = fields.flag("use_bias")
    steps_from, steps_to = step_limits(fields)
    return Mamba2(
        num_heads,
        head_dim,
        fields.integer("n_groups", 8),
        fields.integer("state_size", 128),
        fields.integer("conv_kernel", 4),
        fields.flag("use_conv_bias", True),
        has_bias,
        has_bias,
        steps_from=steps_from,
        steps_to=steps_to,
    )


_DEFAULTS: dict[str, Any] = {
    "hidden_size": 4096,
    "num_hidden_layers": 64,
    # A state has no end: as long as Codestral Mamba was trained for.
    "max_position_embeddings": 262144,
}
# Of training, and of code that is not run here; rms_norm: that there is one, which the files show.
_HARMLESS = HARMLESS | frozenset(
    """
    residual_in_fp32 rescale_prenorm_residual time_step_rank time_step_min time_step_max
    time_step_floor time_step_init_scheme rms_norm norm_before_gate intermediate_size layer_types
    """.split()
)

FAMILY = Family(
    name="mamba2",
    huggingface=("Mamba2ForCausalLM",),
    gguf=("mamba2",),
    spec=_spec,
    hf_names=hf_names(
        {**hf_parts("mixer"), "input_layernorm": "norm"},
        fused=hf_fused("mixer"),
        top={"model.embed_tokens": ("embeddings", "embedding"), "model.norm": "norm_f"},
        prefixes=("backbone.", "model."),
    ),
    gguf_names=gguf_names(GGUF_PARTS, fused=GGUF_FUSED),
    aliases={"layer_norm_epsilon": "rms_norm_eps"},
    defaults=_DEFAULTS,
    harmless=_HARMLESS,
    models="Mamba-2, Codestral Mamba",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
