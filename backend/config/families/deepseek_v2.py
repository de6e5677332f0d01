"""DeepSeek V2 (DeepSeek-AI 2024): compressed keys and values, experts chosen by a softmax."""

import msgspec

from backend.config.expert_fields import read_experts
from backend.config.families.deepseek_v3 import TRAINING
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.latent_fields import LATENT_PARTS, read_deepseek_experts, read_latent
from backend.config.sizes import num_layers
from backend.config.spec import MLP, DecoderSpec, Experts, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    fields.must_be("scoring_func", "softmax", "only softmax is supported")
    fields.must_be("moe_layer_freq", 1, "every layer behind the first dense ones has experts")
    fields.must_be("mlp_bias", False, "no model of this family has biases there")
    # transformers' class reads it and leaves it out; no published model has it.
    fields.must_be("norm_topk_prob", False, "weights of the chosen stay what they are")
    # transformers' class does not read it.
    fields.must_be("rope_interleave", True, "numbers of a head turn in pairs")
    attention, experts = read_latent(fields), _experts(fields)
    dense = fields.integer("first_k_dense_replace", 0)
    mlp = MLP(fields.integer("intermediate_size", 11008))
    layers = tuple(
        Layer(attention, experts if index >= dense else mlp) for index in range(num_layers(fields))
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-6)))


def _experts(fields: Fields) -> Experts:
    width = fields.integer("moe_intermediate_size", 1407)
    experts = read_experts(
        fields,
        width,
        renormalise=False,
        top_k=6,
        shared_width=width * fields.integer("n_shared_experts", 2),
    )
    experts = msgspec.structs.replace(experts, group_score="best")
    method = fields.one_of("topk_method", ["greedy", "group_limited_greedy"], "greedy")
    if method == "greedy":
        fields.harmless(["n_group", "topk_group"])
        return msgspec.structs.replace(
            experts, weight_scale=fields.number("routed_scaling_factor", 1.0)
        )
    return read_deepseek_experts(fields, experts)


FAMILY = Family(
    name="deepseek_v2",
    huggingface=("DeepseekV2ForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(LATENT_PARTS, fused=FUSED_EXPERTS),
    gguf_names=gguf_names(),
    aliases={"n_routed_experts": "num_experts"},
    defaults={"q_lora_rank": 1536},
    harmless=TRAINING,
    models="DeepSeek V2, V2-Lite, Coder V2",
)
