"""OLMoE (Muennighoff et al. 2024): experts, and norms of all queries and of all keys of a token."""

from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import EXPERT_PARTS, FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    fields.must_be("clip_qkv", None, "queries, keys and values that are cut off are not supported")
    has_bias = not is_gguf and fields.flag("attention_bias")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields))),
        qkv_bias=has_bias,
        out_bias=has_bias,
        qk_norm="all",
    )
    experts = read_experts(
        fields,
        fields.integer("intermediate_size"),
        # llama.cpp never makes the weights sum to 1 here, and files do not say.
        renormalise=not is_gguf and fields.flag("norm_topk_prob"),
        top_k=8,
    )
    norm = Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5))
    return DecoderSpec((Layer(attention, experts),) * num_layers(fields), norm)


FAMILY = Family(
    name="olmoe",
    huggingface=("OlmoeForCausalLM",),
    gguf=("olmoe",),
    spec=_spec,
    hf_names=hf_names(EXPERT_PARTS, fused=FUSED_EXPERTS),
    gguf_names=gguf_names(),
    aliases={"num_local_experts": "num_experts"},
    models="OLMoE",
)
