"""Llama (Touvron et al. 2023) and what is built like it: SmolLM2, Llama 2 and 3, Mistral."""

from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    fields.one_of("hidden_act", ["silu"], "silu")
    # In GGUF files biases say by being there that they are to be added.
    has_bias = fields.flag("attention_bias")
    dim = rotary_dim(fields, head_dim(fields))
    attention = Attention(
        rope=read_rope(fields, dim, interleaved=True),
        window=fields.integer("sliding_window", 0),
        qkv_bias="blk.0.attn_q.bias" in fields.tensors if is_gguf else has_bias,
        out_bias="blk.0.attn_output.bias" in fields.tensors if is_gguf else has_bias,
    )
    mlp_bias = "blk.0.ffn_gate.bias" in fields.tensors if is_gguf else fields.flag("mlp_bias")
    mlp = MLP(fields.integer("intermediate_size"), has_bias=mlp_bias)
    norm = Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6))
    return DecoderSpec((Layer(attention, mlp),) * num_layers(fields), norm)


FAMILY = Family(
    name="llama",
    huggingface=("LlamaForCausalLM", "MistralForCausalLM"),
    gguf=("llama",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    models="Llama 2, 3; SmolLM2; TinyLlama",
    checked="SmolLM2-135M-Instruct Q4_1 served, perplexity beside llama.cpp",
)
