"""Solar Open (Upstage 2025): GLM-4.5's experts in every layer, behind a Llama's attention."""

from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import ROUTER_PARTS, read_routed_experts
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields), 1.0), theta=1e6),
        qkv_bias=fields.flag("attention_bias"),
    )
    layer = Layer(attention, read_routed_experts(fields, 1280))
    return DecoderSpec((layer,) * num_layers(fields), Norm(fields.number("rms_norm_eps", 1e-5)))


FAMILY = Family(
    name="solar_open",
    huggingface=("SolarOpenForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(ROUTER_PARTS, fused=FUSED_EXPERTS),
    gguf_names=gguf_names(),
    aliases={"n_routed_experts": "num_experts"},
    defaults={"head_dim": 128, "num_experts": 128, "max_position_embeddings": 131072},
    # Of dense layers, of which these models have none.
    harmless=frozenset({"intermediate_size", "first_k_dense_replace", "use_qk_norm"}),
    models="Solar Open 100B",
)
