"""Falcon (Almazrouei et al. 2023): one KV head, or groups; attention and MLP side by side."""

from backend.config.activations import read_activation
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm, NormPlaces


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    fields.must_be("alibi", False, "scores that fall with the distance (ALiBi) are not known")
    is_newer = fields.flag("new_decoder_architecture")
    if not is_gguf:
        _read_kv_heads(fields, is_newer=is_newer)
    has_bias = fields.flag("bias")
    hidden = fields.integer("hidden_size")
    layer = Layer(
        Attention(
            read_rope(fields, rotary_dim(fields, head_dim(fields))),
            qkv_bias=has_bias,
            out_bias=has_bias,
        ),
        MLP(
            fields.integer("intermediate_size", 4 * hidden),
            # llama.cpp approximates GELU, whatever the directory had.
            "gelu_tanh" if is_gguf else read_activation(fields, "hidden_act", "gelu"),
            is_gated=False,
            has_bias=has_bias,
        ),
        norms=_norms(fields, is_newer=is_newer),
    )
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    return DecoderSpec((layer,) * num_layers(fields), Norm(eps, "layer", has_bias=True))


def _read_kv_heads(fields: Fields, *, is_newer: bool) -> None:
    """Say how many KV heads there are: the newer architecture alone counts them."""
    has_one = fields.flag("multi_query", True) and not is_newer
    heads = fields.integer("num_attention_heads")
    said = fields.integer("num_key_value_heads", heads)
    own = said if is_newer else heads
    fields.add("num_key_value_heads", 1 if has_one else own)


def _norms(fields: Fields, *, is_newer: bool) -> NormPlaces:
    if fields.kind == "gguf":
        has_two = "blk.0.attn_norm_2.weight" in fields.tensors
        return "parallel_two" if has_two else "parallel"
    count = fields.integer("num_ln_in_parallel_attn", 2 if is_newer else 1)
    if not fields.flag("parallel_attn", True):
        fields.must_be("new_decoder_architecture", False, "it has attention and MLP side by side")
        return "before"
    if count not in ((1, 2) if is_newer else (1,)):
        raise ModelError(f"num_ln_in_parallel_attn is {count}: so many norms are not known here")
    return "parallel_two" if count == 2 else "parallel"


_FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

FAMILY = Family(
    name="falcon",
    huggingface=("FalconForCausalLM", "RWForCausalLM"),
    gguf=("falcon",),
    spec=_spec,
    hf_names=hf_names(
        {
            "input_layernorm": ("ln_attn", "input_layernorm"),
            "post_attention_layernorm": ("ln_mlp", "post_attention_layernorm"),
            "self_attn.o_proj": "self_attention.dense",
            "mlp.up_proj": "mlp.dense_h_to_4h",
            "mlp.down_proj": "mlp.dense_4h_to_h",
        },
        grouped={"self_attention.query_key_value": _FUSED},
        top={"model.embed_tokens": "word_embeddings", "model.norm": "ln_f"},
        prefixes=("transformer.", ""),
        layer="h.{i}.",
    ),
    gguf_names=gguf_names(
        # Of two norms, the first is the MLP's.
        {
            "input_layernorm": ("attn_norm_2", "attn_norm"),
            "post_attention_layernorm": "attn_norm",
        }
    ),
    aliases={
        "num_kv_heads": "num_key_value_heads",
        "layer_norm_epsilon": "layer_norm_eps",
        "ffn_hidden_size": "intermediate_size",
        "activation": "hidden_act",
        # As files of RWForCausalLM call them.
        "n_head": "num_attention_heads",
        "n_head_kv": "num_key_value_heads",
        "n_layer": "num_hidden_layers",
        "n_embed": "hidden_size",
    },
    # What FalconConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 65024,
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "max_position_embeddings": 2048,
    },
    harmless=frozenset({"apply_residual_connection_post_layernorm"}),
    tie_word_embeddings=True,
    models="Falcon 7B, 40B, 180B, Falcon 2 11B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
