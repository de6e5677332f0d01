"""Youtu-LLM (Tencent 2025): DeepSeek's compressed keys and values, without experts."""

from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import LATENT_PARTS, read_latent
from backend.config.sizes import num_layers
from backend.config.spec import MLP, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    layer = Layer(read_latent(fields), MLP(fields.integer("intermediate_size", 6144)))
    return DecoderSpec((layer,) * num_layers(fields), Norm(fields.number("rms_norm_eps", 1e-6)))


FAMILY = Family(
    name="youtu",
    huggingface=("YoutuForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(LATENT_PARTS),
    gguf_names=gguf_names(),
    defaults={
        "hidden_size": 2048,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "q_lora_rank": 1536,
        "max_position_embeddings": 131072,
    },
    # Of training; head_dim: what turns, which qk_rope_head_dim says.
    harmless=frozenset({"embedding_initializer_range", "head_dim", "mlp_bias"}),
    tie_word_embeddings=True,
    models="Youtu-LLM 2B",
)
