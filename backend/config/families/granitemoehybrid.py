"""Granite 4 (IBM 2025): Mamba-2 in most layers, attention without positions in some; Granite's
multipliers, and experts beside a shared one, or that one alone."""

from typing import Any

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.errors import ModelError
from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
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
    read_mamba,
    say_kv_heads,
)
from backend.config.rope import Rope
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm

_ROPE = ("rope_theta", "rope_parameters", "rope_scaling", "partial_rotary_factor")


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    fields.one_of("hidden_act", ["silu"], "silu")
    kinds = _gguf_kinds(fields) if is_gguf else _kinds(fields)
    mamba = None
    if MAMBA in kinds:
        mamba = read_gguf_mamba(fields) if is_gguf else read_mamba(fields)
    size = head_dim(fields)
    # A GGUF file without a scale leaves it at that of other models, as llama.cpp has it.
    scale = fields.number("attention_multiplier", 0.0 if is_gguf else 1.0)
    attention = Attention(
        _rope(fields, size),
        scale=scale or size**-0.5,
        qkv_bias=has_qkv_bias(fields),
        out_bias=has_out_bias(fields),
    )
    mlp = _mlp(fields)
    residual = fields.number("residual_multiplier", 1.0) or 1.0
    layers = tuple(
        Layer(None, mlp, residual_scale=residual, state=mamba)
        if kind == MAMBA
        else Layer(attention, mlp, residual_scale=residual)
        for kind in kinds
    )
    return DecoderSpec(
        layers,
        Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6)),
        embedding_scale=fields.number("embedding_multiplier", 1.0) or 1.0,
        logit_scale=1.0 / (fields.number("logits_scaling", 1.0) or 1.0),
    )


def _mlp(fields: Fields) -> MLP | Experts:
    """Return what all layers have behind attention or Mamba-2."""
    is_gguf = fields.kind == "gguf"
    if fields.integer("num_experts", 0) == 0:
        fields.harmless(["num_experts_per_tok"])
        name = "intermediate_size" if is_gguf else "shared_expert_intermediate_size"
        fields.harmless(["intermediate_size", "shared_expert_intermediate_size"])
        return MLP(fields.integer(name))
    return read_experts(
        fields,
        fields.integer("intermediate_size"),
        # The softmax of the chosen scores alone: that of all, renormalised.
        renormalise=True,
        shared_width=fields.integer("shared_expert_intermediate_size", 0),
    )


def _rope(fields: Fields, size: int) -> Rope | None:
    if fields.kind == "gguf":
        # llama.cpp's switch of Granite's rotation.
        rope = read_rope(fields, rotary_dim(fields, size), interleaved=True)
        return rope if fields.flag("rope.scaling.finetuned", True) else None
    if fields.raw("position_embedding_type") == "rope":
        return read_rope(fields, rotary_dim(fields, size))
    fields.harmless(_ROPE)
    return None


def _kinds(fields: Fields) -> list[str]:
    count = num_layers(fields)
    found = fields.raw("layer_types", [MAMBA] * count)
    if not isinstance(found, list) or len(found) != count:
        raise ModelError(f"layer_types is no list of {count}, one for each layer")
    kinds = [OLDER.get(str(kind), str(kind)) for kind in found]
    if unknown := sorted(set(kinds) - {MAMBA, FULL}):
        raise ModelError(f"layer_types: {unknown[0]!r} is not supported; {MAMBA} and {FULL}")
    return kinds


def _gguf_kinds(fields: Fields) -> list[str]:
    """Layers without keys are Mamba-2."""
    counts = of_layers(fields, "num_key_value_heads", num_layers(fields))
    say_kv_heads(fields, counts)
    return [FULL if count else MAMBA for count in counts]


_BLOCK = "block_sparse_moe."
_GATE, _UP, _DOWN = (f"mlp.experts.{{e}}.{name}_proj" for name in ("gate", "up", "down"))
_DEFAULTS: dict[str, Any] = {
    "num_experts": 8,
    "shared_expert_intermediate_size": 1024,
    "intermediate_size": 11008,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}

FAMILY = Family(
    name="granitemoehybrid",
    huggingface=("GraniteMoeHybridForCausalLM",),
    gguf=("granitehybrid",),
    spec=_spec,
    hf_names=hf_names(
        {
            **hf_parts(),
            "mlp.router": (f"{_BLOCK}router.layer", f"{_BLOCK}router"),
            # Of layers without experts the shared one is the MLP.
            "mlp.shared.down_proj": "shared_mlp.output_linear",
            "mlp.down_proj": "shared_mlp.output_linear",
        },
        fused={
            **hf_fused(),
            f"{_BLOCK}input_linear": (_GATE, _UP),
            f"{_BLOCK}output_linear": (_DOWN,),
            f"{_BLOCK}experts.gate_up_proj": (_GATE, _UP),
            f"{_BLOCK}experts.down_proj": (_DOWN,),
            # Of these a model has two.
            "shared_mlp.input_linear": (
                "mlp.shared.gate_proj",
                "mlp.shared.up_proj",
                "mlp.gate_proj",
                "mlp.up_proj",
            ),
        },
    ),
    gguf_names=gguf_names(GGUF_PARTS, fused=GGUF_FUSED),
    aliases={
        "num_local_experts": "num_experts",
        "shared_intermediate_size": "shared_expert_intermediate_size",
        "layers_block_type": "layer_types",
    },
    defaults=_DEFAULTS,
    harmless=HARMLESS,
    models="Granite 4 (H and dense)",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
