"""GPT-J (Wang and Komatsuzaki 2021): attention and MLP side by side from one norm."""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    hidden = fields.integer("hidden_size")
    heads = fields.integer("num_attention_heads")
    fields.must_be("num_key_value_heads", heads, "this family has no groups of heads")
    # As GPT-J's own code had them, and transformers' does not read.
    fields.must_be("rotary", True, "positions turn in this family")
    fields.must_be("scale_attn_weights", True, "scores are scaled in this family")
    rope = Rope(fields.integer("rotary_dim", head_dim(fields)), is_interleaved=True)
    mlp = MLP(
        fields.integer("intermediate_size", 4 * hidden),
        read_activation(fields, "hidden_act", "gelu_new"),
        is_gated=False,
        has_bias=True,
    )
    norm = Norm(fields.number("layer_norm_eps", 1e-5), "layer", has_bias=True)
    layer = Layer(Attention(rope), mlp, norms="parallel")
    return DecoderSpec((layer,) * num_layers(fields), norm, head_bias=True)


FAMILY = Family(
    name="gptj",
    huggingface=("GPTJForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(
        {
            "input_layernorm": "ln_1",
            "self_attn.q_proj": "attn.q_proj",
            "self_attn.k_proj": "attn.k_proj",
            "self_attn.v_proj": "attn.v_proj",
            "self_attn.o_proj": "attn.out_proj",
            "mlp.up_proj": "mlp.fc_in",
            "mlp.down_proj": "mlp.fc_out",
        },
        top={"model.embed_tokens": "wte", "model.norm": "ln_f"},
        prefixes=("transformer.", ""),
        layer="h.{i}.",
        # The causal mask, as old files have it, and what positions turn by.
        ignored=r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias|embed_positions)",
    ),
    gguf_names=gguf_names(),
    aliases={
        "n_embd": "hidden_size",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_positions": "max_position_embeddings",
        "layer_norm_epsilon": "layer_norm_eps",
        "activation_function": "hidden_act",
    },
    # What GPTJConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 50400,
        "hidden_size": 4096,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "max_position_embeddings": 2048,
        "rotary_dim": 64,
    },
    harmless=frozenset(
        """
        resid_pdrop embd_pdrop attn_pdrop summary_type summary_use_proj summary_activation
        summary_proj_to_labels summary_first_dropout
        """.split()
    ),
    models="GPT-J-6B",
)
