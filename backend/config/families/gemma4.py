"""Gemma 4 (Gemma Team 2026): Gemma 3 with two kinds of layers that differ in more than the window.

Layers that see all tokens have larger heads, fewer of them and values that are their keys, and turn
a part of each head. Small models tell every layer of each token by itself, and their last layers
see the keys of earlier ones; in the mixture an MLP stands beside the experts.
"""

import msgspec

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.errors import ModelError
from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.gemma2 import GEMMA_PARTS, gemma_activation, gemma_embedding_scale
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.gemma4_layers import LayerKind, kv_owners, layer_kinds
from backend.config.sizes import num_layers
from backend.config.spec import (
    MLP,
    Attention,
    DecoderSpec,
    Experts,
    Layer,
    Norm,
    PerLayerInput,
)

# What Gemma4TextConfig of transformers says of fields that a config.json lacks.
_DEFAULTS = {
    "vocab_size": 262144,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "sliding_window": 512,
    "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256,
}
# Layers that see others' keys have none, but files have some for them.
_UNUSED_KEYS = r"(model\.|language_model\.)*layers\.\d+\.self_attn\.[kv]_(proj|norm)\..*"
_GGUF_UNUSED_KEYS = r"blk\.\d+\.attn_(k|v|k_norm)\.weight"
_PARTS: dict[str, str | tuple[str, ...]] = GEMMA_PARTS | {
    "mlp.router": "router.proj",
    "mlp.router_norm": "router.scale",
    "mlp.expert_scales": "router.per_expert_scale",
    "mlp_dense_norm": "post_feedforward_layernorm_1",
    "experts_input_norm": "pre_feedforward_layernorm_2",
    "experts_output_norm": "post_feedforward_layernorm_2",
    "per_layer.gate": "per_layer_input_gate",
    "per_layer.proj": "per_layer_projection",
    "per_layer.norm": "post_per_layer_input_norm",
}
_GGUF_PARTS: dict[str, str | tuple[str, ...]] = {
    "mlp.router_norm": "ffn_gate_inp.scale",
    "mlp.expert_scales": "ffn_down_exps.scale",
    "mlp_dense_norm": "post_ffw_norm_1",
    "experts_input_norm": "pre_ffw_norm_2",
    "experts_output_norm": "post_ffw_norm_2",
    "per_layer.gate": "inp_gate",
    "per_layer.proj": "proj",
    "per_layer.norm": "post_norm",
    "layer_scalar": "layer_output_scale",
}


def gemma4_spec(fields: Fields) -> DecoderSpec:
    """Return the spec of a model of either family. Raises ModelError."""
    count = num_layers(fields)
    if fields.kind == "huggingface":
        may_see_behind = [None, "vision"]
        if fields.raw("use_bidirectional_attention") not in may_see_behind:
            fields.must_be("use_bidirectional_attention", None, "tokens would see those after them")
    # First: heads and their sizes become those of layers with a window, whatever the file says.
    kinds = layer_kinds(fields, count)
    owners = kv_owners(fields, kinds)
    experts = _experts(fields)
    widths = _widths(fields, owners)
    activation = gemma_activation(fields)
    has_scalar = fields.kind == "huggingface" or "blk.0.layer_output_scale.weight" in fields.tensors
    biases = has_qkv_bias(fields), has_out_bias(fields)
    layers = tuple(
        Layer(
            _attention(kind, owner, biases),
            MLP(width, activation),
            norms="around",
            beside=msgspec.structs.replace(experts, activation=activation) if experts else None,
            has_scalar=has_scalar,
        )
        for kind, owner, width in zip(kinds, owners, widths, strict=True)
    )
    told = _per_layer_width(fields)
    return DecoderSpec(
        layers,
        Norm(fields.number("rms_norm_eps")),
        embedding_scale=gemma_embedding_scale(fields),
        logit_softcap=fields.number("final_logit_softcapping", _softcap(fields)),
        per_layer=PerLayerInput(told, activation) if told else None,
    )


def _softcap(fields: Fields) -> float:
    """Return the cap of logits where a file says nothing: llama.cpp takes Gemma 2's."""
    return 30.0 if fields.kind == "gguf" else 0.0


def _attention(kind: LayerKind, owner: int | None, biases: tuple[bool, bool]) -> Attention:
    return Attention(
        kind.rope,
        scale=1.0,
        window=kind.window,
        qkv_bias=biases[0],
        out_bias=biases[1],
        qk_norm="head",
        head_dim=kind.head_dim,
        num_kv_heads=kind.num_kv_heads,
        v_norm=True,
        k_eq_v=kind.k_eq_v and owner is None,
        shares_kv_of=owner,
    )


def _widths(fields: Fields, owners: list[int | None]) -> list[int]:
    """Return the columns of each layer's MLP. GGUF files have a list where they differ."""
    found = fields.raw("intermediate_size")
    if isinstance(found, list):
        if len(found) != len(owners) or not all(type(width) is int for width in found):
            raise ModelError(
                f"{fields.label('intermediate_size')} is no list of {len(owners)} numbers"
            )
        return found
    width = fields.integer("intermediate_size")
    is_double = fields.flag("use_double_wide_mlp")
    return [width if owner is None or not is_double else 2 * width for owner in owners]


def _experts(fields: Fields) -> Experts | None:
    names = ["num_experts", "num_experts_per_tok", "moe_intermediate_size"]
    has_experts = (
        fields.integer("num_experts", 0) > 0
        if fields.kind == "gguf"
        else fields.flag("enable_moe_block")
    )
    if not has_experts:
        fields.harmless(names)
        return None
    width = fields.integer("moe_intermediate_size")
    experts = read_experts(fields, width, renormalise=True)
    is_scaled = fields.kind == "huggingface" or "blk.0.ffn_down_exps.scale" in fields.tensors
    return msgspec.structs.replace(
        experts, router_eps=fields.number("rms_norm_eps"), has_scales=is_scaled
    )


def _per_layer_width(fields: Fields) -> int:
    """Return how many numbers each layer is told of a token, 0 for none."""
    width = fields.integer("hidden_size_per_layer_input", 0)
    if fields.kind == "gguf" or not width:
        fields.harmless(["vocab_size_per_layer_input"])
        return width
    vocab_size = fields.integer("vocab_size")
    fields.must_be(
        "vocab_size_per_layer_input",
        vocab_size,
        f"only that of the vocabulary, {vocab_size}, is supported",
    )
    return width


FAMILY = Family(
    name="gemma4",
    huggingface=("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    gguf=("gemma4",),
    spec=gemma4_spec,
    hf_names=hf_names(
        _PARTS,
        fused={
            "experts.gate_up_proj": ("mlp.experts.{e}.gate_proj", "mlp.experts.{e}.up_proj"),
            "experts.down_proj": ("mlp.experts.{e}.down_proj",),
        },
        top={
            "model.per_layer_projection": "per_layer_model_projection",
            "model.per_layer_norm": "per_layer_projection_norm",
            "model.embed_tokens_per_layer": "embed_tokens_per_layer",
        },
        ignored=_UNUSED_KEYS,
    ),
    gguf_names=gguf_names(
        _GGUF_PARTS,
        top={
            "model.embed_tokens_per_layer": "per_layer_token_embd",
            "model.per_layer_projection": "per_layer_model_proj",
            "model.per_layer_norm": "per_layer_proj_norm",
        },
        ignored=_GGUF_UNUSED_KEYS,
    ),
    aliases={"top_k_experts": "num_experts_per_tok"},
    defaults=_DEFAULTS,
    tie_word_embeddings=True,
    models="Gemma 4 E2B, E4B, 26B-A4B, 31B (text)",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
