"""Mixtral (Jiang et al. 2024): a Mistral with experts. GGUF files call it llama."""

from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    if "rope_theta" not in fields:
        fields.add("rope_theta", 1e6)  # where neither layout of config.json says
        fields.harmless(["rope_theta"])
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    attention = Attention(rope, window=fields.integer("sliding_window", 0))
    experts = read_experts(fields, fields.integer("intermediate_size"), renormalise=True)
    norm = Norm(fields.number("rms_norm_eps", 1e-5))
    return DecoderSpec((Layer(attention, experts),) * num_layers(fields), norm)


_BLOCK = "block_sparse_moe."

FAMILY = Family(
    name="mixtral",
    huggingface=("MixtralForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(
        {
            "mlp.router": (f"{_BLOCK}gate", "mlp.gate"),
            "mlp.experts.{e}.gate_proj": f"{_BLOCK}experts.{{e}}.w1",
            "mlp.experts.{e}.down_proj": f"{_BLOCK}experts.{{e}}.w2",
            "mlp.experts.{e}.up_proj": f"{_BLOCK}experts.{{e}}.w3",
        },
        fused=FUSED_EXPERTS,
    ),
    gguf_names=gguf_names(),
    aliases={"num_local_experts": "num_experts"},
    harmless=frozenset({"router_jitter_noise"}),  # added to what a router sees in training alone
    models="Mixtral 8x7B, 8x22B",
)
