"""GPT-NeoX (Black et al. 2022), Pythia: attention and MLP side by side, each with a norm."""

from backend.config.activations import read_activation
from backend.config.biases import has_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    heads = fields.integer("num_attention_heads")
    fields.must_be("num_key_value_heads", heads, "this family has no groups of heads")
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields), 1.0 if is_gguf else 0.25))
    layer = Layer(
        Attention(
            rope,
            qkv_bias=has_bias(fields, "attention_bias", "attn_qkv"),
            out_bias=has_bias(fields, "attention_bias", "attn_output"),
        ),
        MLP(
            fields.integer("intermediate_size"),
            # llama.cpp approximates GELU, whatever the directory had.
            "gelu_tanh" if is_gguf else read_activation(fields, "hidden_act", "gelu"),
            is_gated=False,
            has_bias=True,
        ),
        norms="parallel_two" if fields.flag("use_parallel_residual", True) else "before",
    )
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    return DecoderSpec((layer,) * num_layers(fields), Norm(eps, "layer", has_bias=True))


FAMILY = Family(
    name="gpt_neox",
    huggingface=("GPTNeoXForCausalLM",),
    gguf=("gptneox",),
    spec=_spec,
    hf_names=hf_names(
        {
            "self_attn.o_proj": "attention.dense",
            "mlp.up_proj": "mlp.dense_h_to_4h",
            "mlp.down_proj": "mlp.dense_4h_to_h",
        },
        grouped={
            "attention.query_key_value": (
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
            )
        },
        top={
            "model.embed_tokens": "embed_in",
            "model.norm": "final_layer_norm",
            "lm_head": ("/embed_out", "/lm_head"),
        },
        prefixes=("gpt_neox.", ""),
        # The causal mask, as old files have it.
        ignored=r"(gpt_neox\.)?layers\.\d+\.attention\.((masked_)?bias|rotary_emb\.inv_freq)",
    ),
    gguf_names=gguf_names(),
    aliases={"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"},
    # What GPTNeoXConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 50432,
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "intermediate_size": 24576,
        "max_position_embeddings": 2048,
        "attention_bias": True,
    },
    harmless=frozenset({"classifier_dropout"}),
    models="GPT-NeoX-20B, Pythia, Dolly 2",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
