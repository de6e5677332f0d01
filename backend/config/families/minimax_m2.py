"""MiniMax M2 (2025): experts by sigmoids with a correction, queries and keys normalised whole."""

from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import Attention, DecoderSpec, Layer, Norm

_BLOCK = "block_sparse_moe."


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf, size = fields.kind == "gguf", head_dim(fields)
    # Published files say how much of a head turns as a number, others as a share.
    turning = fields.integer("rotary_dim", size) / size
    attention = Attention(
        read_rope(fields, rotary_dim(fields, size, turning), theta=5e6), qk_norm="all"
    )
    fields.must_be("use_qk_norm", True, "queries and keys of these models are normalised")
    fields.must_be("qk_norm_type", "per_layer", "heads are normalised as one")
    fields.one_of("scoring_func", ["sigmoid"], "sigmoid")
    width = fields.integer("intermediate_size")
    if is_gguf:
        fields.must_be("expert_gating_func", 2, "experts of these models are chosen by sigmoids")
        fields.harmless(["moe_intermediate_size"])  # the width again
    experts = read_experts(
        fields, width, renormalise=True, top_k=8, router="sigmoid", has_correction=True
    )
    norm = Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6))
    return DecoderSpec((Layer(attention, experts),) * num_layers(fields), norm)


FAMILY = Family(
    name="minimax_m2",
    huggingface=("MiniMaxM2ForCausalLM",),
    gguf=("minimax-m2",),
    spec=_spec,
    hf_names=hf_names(
        {
            "mlp.router": (f"{_BLOCK}gate", "mlp.gate"),
            "mlp.router_correction": (
                f"{_BLOCK}e_score_correction",
                "mlp.e_score_correction",
            ),
            "mlp.experts.{e}.gate_proj": f"{_BLOCK}experts.{{e}}.w1",
            "mlp.experts.{e}.down_proj": f"{_BLOCK}experts.{{e}}.w2",
            "mlp.experts.{e}.up_proj": f"{_BLOCK}experts.{{e}}.w3",
        },
        fused=FUSED_EXPERTS,
    ),
    gguf_names=gguf_names({"mlp.router_correction": "exp_probs_b"}),
    aliases={"num_local_experts": "num_experts"},
    defaults={"head_dim": 128, "max_position_embeddings": 196608},
    # Of layers that predict further tokens, which published files leave out, and of training.
    harmless=frozenset(
        """
        router_jitter_noise use_mtp num_mtp_modules mtp_transformer_layers shared_intermediate_size
        use_routing_bias attn_type_list
        """.split()
    ),
    models="MiniMax M2, M2.1, M2.5",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
