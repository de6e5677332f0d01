"""Llama (Touvron et al. 2023) and what is built like it: SmolLM2, TinyLlama, Llama 2 and 3.

GGUF files of Mixtral are of this family, too.
"""

from backend.config.biases import has_bias, has_out_bias, has_qkv_bias
from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    # SmolLM2's files have them.
    fields.must_be("is_llama_config", True, "then it is no Llama")
    fields.must_be("rope_interleaved", False, "heads of directories have halves")
    attention = Attention(
        rope=read_rope(fields, rotary_dim(fields, head_dim(fields)), interleaved=True),
        qkv_bias=has_qkv_bias(fields),
        out_bias=has_out_bias(fields),
    )
    is_gguf = fields.kind == "gguf"
    width = fields.integer("intermediate_size")
    mlp: MLP | Experts = MLP(width, has_bias=has_bias(fields, "mlp_bias", "ffn_gate"))
    if is_gguf and fields.integer("num_experts", 0) > 0:
        mlp = read_experts(fields, width, renormalise=True)
    norm = Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6))
    if is_gguf:
        # llama.cpp reads no window of a Llama; those of Mistral, which have this architecture's
        # name, see all tokens there.
        fields.harmless(["sliding_window"])
    return DecoderSpec((Layer(attention, mlp),) * num_layers(fields), norm)


FAMILY = Family(
    name="llama",
    huggingface=("LlamaForCausalLM",),
    gguf=("llama",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    models="Llama 2, 3; SmolLM2; TinyLlama; Mistral as GGUF",
    checked="SmolLM2-135M-Instruct Q4_1 served, perplexity beside llama.cpp",
)
