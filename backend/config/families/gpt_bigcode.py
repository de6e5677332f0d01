"""StarCoder and SantaCoder (Li et al. 2023): a GPT-2 of one KV head."""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.gpt2 import GPT2_ALIASES, GPT2_LAYER, GPT2_MASKS, GPT_TOP
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, LearnedPositions, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    fields.must_be("add_cross_attention", False, "there is no encoder to attend to")
    if not is_gguf:
        has_one = fields.flag("multi_query", True)
        heads = 1 if has_one else fields.integer("num_attention_heads")
        fields.must_be("num_key_value_heads", heads, f"multi_query is {str(has_one).lower()}")
        fields.add("num_key_value_heads", heads)
    scale = head_dim(fields) ** -0.5 if fields.flag("scale_attn_weights", True) else 1.0
    mlp = MLP(
        fields.integer("intermediate_size", 4 * fields.integer("hidden_size")),
        "gelu_tanh" if is_gguf else read_activation(fields, "hidden_act", "gelu_pytorch_tanh"),
        is_gated=False,
        has_bias=True,
    )
    layer = Layer(Attention(None, scale, qkv_bias=True, out_bias=True), mlp)
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    return DecoderSpec(
        (layer,) * num_layers(fields),
        Norm(eps, "layer", has_bias=True),
        positions=LearnedPositions(fields.integer("max_position_embeddings")),
    )


FAMILY = Family(
    name="gpt_bigcode",
    huggingface=("GPTBigCodeForCausalLM",),
    gguf=("starcoder",),
    spec=_spec,
    hf_names=hf_names(
        GPT2_LAYER,
        grouped={"attn.c_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")},
        top=GPT_TOP,
        prefixes=("transformer.", ""),
        layer="h.{i}.",
        ignored=GPT2_MASKS,
    ),
    gguf_names=gguf_names(),
    aliases=GPT2_ALIASES,
    # What GPTBigCodeConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 50257,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 1024,
    },
    # How its attention rounds, and how the servers it was written for ran it.
    harmless=frozenset(
        """
        resid_pdrop embd_pdrop attn_pdrop attention_softmax_in_fp32 scale_attention_softmax_in_fp32
        summary_type summary_use_proj summary_activation summary_proj_to_labels
        summary_first_dropout inference_runner max_batch_size max_sequence_length pad_key_length
        pre_allocate_kv_cache validate_runner_input
        """.split()
    ),
    tie_word_embeddings=True,
    models="StarCoder, StarCoderBase, SantaCoder",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
