"""Phi-1, Phi-1.5, Phi-2 (Gunasekar et al. 2023): attention and MLP side by side from one norm."""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    fields.must_be("qk_layernorm", False, "a norm of queries and keys is not known here")
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields), 1.0 if is_gguf else 0.5))
    layer = Layer(
        Attention(rope, qkv_bias=True, out_bias=True),
        MLP(
            fields.integer("intermediate_size"),
            "gelu_tanh" if is_gguf else read_activation(fields, "hidden_act", "gelu_new"),
            is_gated=False,
            has_bias=True,
        ),
        norms="parallel",
    )
    eps = fields.number("layer_norm_eps", None if is_gguf else 1e-5)
    norm = Norm(eps, "layer", has_bias=True)
    return DecoderSpec((layer,) * num_layers(fields), norm, head_bias=True)


FAMILY = Family(
    name="phi",
    huggingface=("PhiForCausalLM",),
    gguf=("phi2",),
    spec=_spec,
    hf_names=hf_names(
        {
            "self_attn.o_proj": "self_attn.dense",
            "mlp.up_proj": "mlp.fc1",
            "mlp.down_proj": "mlp.fc2",
        },
        top={"model.norm": "final_layernorm"},
    ),
    gguf_names=gguf_names(),
    # What PhiConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 51200,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
    },
    harmless=frozenset({"resid_pdrop", "embd_pdrop"}),
    models="Phi-1, Phi-1.5, Phi-2",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
