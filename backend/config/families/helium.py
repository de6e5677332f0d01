"""Helium (Kyutai 2025): a Llama whose heads turn pair by pair."""

import msgspec

from backend.config.biases import has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=1e5)
    attention = Attention(
        msgspec.structs.replace(rope, is_interleaved=True), qkv_bias=has_qkv_bias(fields)
    )
    mlp = MLP(fields.integer("intermediate_size"), has_bias=fields.flag("mlp_bias"))
    norm = Norm(fields.number("rms_norm_eps", 1e-8))
    return DecoderSpec((Layer(attention, mlp),) * num_layers(fields), norm)


FAMILY = Family(
    name="helium",
    huggingface=("HeliumForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    # What HeliumConfig of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 48000,
        "hidden_size": 2560,
        "intermediate_size": 7040,
        "num_hidden_layers": 24,
        "num_attention_heads": 20,
        "num_key_value_heads": 20,
        "head_dim": 128,
        "max_position_embeddings": 4096,
    },
    models="Helium 1 2B",
)
