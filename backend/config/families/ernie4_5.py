"""ERNIE 4.5 (Baidu 2025): a Llama whose heads turn pair by pair; some have experts."""

import msgspec

from backend.config.biases import has_bias
from backend.config.errors import ModelError
from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    if not is_gguf and "num_experts" not in fields:
        fields.default("head_dim", 128)  # of models without experts alone
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=5e5)
    attention = Attention(
        # Directories have pairs as well.
        msgspec.structs.replace(rope, is_interleaved=True),
        qkv_bias=has_bias(fields, "use_bias", "attn_q"),
        out_bias=has_bias(fields, "use_bias", "attn_output"),
    )
    has_biases = has_bias(fields, "use_bias", "ffn_gate")
    mlp = MLP(fields.integer("intermediate_size", None if is_gguf else 12288), has_bias=has_biases)
    layers: list[MLP | Experts] = [mlp] * num_layers(fields)
    if "num_experts" in fields:
        if has_biases:
            raise ModelError(f"{fields.label('use_bias')}: experts with biases are not supported")
        experts = _experts(fields)
        layers = [experts if sparse else mlp for sparse in _sparse(fields)]
    norm = Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-5))
    return DecoderSpec(tuple(Layer(attention, mlp) for mlp in layers), norm)


def _experts(fields: Fields) -> Experts:
    width = fields.integer("moe_intermediate_size", 1536)
    if fields.kind == "gguf":
        fields.harmless(["expert_shared_count"])
        shared = fields.integer("shared_expert_intermediate_size", 0)
        has_correction = any(name.endswith(".exp_probs_b.bias") for name in fields.tensors)
    else:
        fields.must_be("moe_gate", "topk", "only topk is supported")
        fields.must_be("moe_use_aux_free", True, "the router has a correction")
        fields.harmless(["moe_capacity", "num_nextn_predict_layers"])
        floor = fields.number("moe_norm_min", 1e-12)
        if floor > 1e-6:
            raise ModelError(
                f"{fields.label('moe_norm_min')} is {floor:g}: weights of experts whose sum is"
                " below it would not\nsum to 1, which is not supported"
            )
        shared = width * fields.integer("moe_num_shared_experts", 2)
        has_correction = True
    return read_experts(
        fields,
        width,
        renormalise=True,
        top_k=6,
        shared_width=shared,
        has_correction=has_correction,
    )


def _sparse(fields: Fields) -> list[bool]:
    """Return of each layer whether it has experts."""
    count, is_gguf = num_layers(fields), fields.kind == "gguf"
    first = fields.integer("leading_dense_block_count" if is_gguf else "moe_layer_start_index", 1)
    step = fields.integer("interleave_moe_layer_step" if is_gguf else "moe_layer_interval", 1)
    last = -1 if is_gguf else fields.integer("moe_layer_end_index", -1)
    if step <= 0:
        raise ModelError(f"{fields.label('moe_layer_interval')} must be above 0, is {step}")
    last = count - 1 if last == -1 else last
    return [first <= index <= last and (index + 1) % step == 0 for index in range(count)]


FAMILY = Family(
    name="ernie4_5",
    huggingface=("Ernie4_5ForCausalLM", "Ernie4_5_MoeForCausalLM"),
    gguf=("ernie4_5", "ernie4_5-moe"),
    spec=_spec,
    hf_names=hf_names(
        {
            "mlp.router": "mlp.gate",
            "mlp.router_correction": (
                "mlp.moe_statics.e_score_correction",
                "mlp.gate.moe_statics.e_score_correction",
            ),
            "mlp.shared.gate_proj": "mlp.shared_experts.gate_proj",
            "mlp.shared.up_proj": "mlp.shared_experts.up_proj",
            "mlp.shared.down_proj": "mlp.shared_experts.down_proj",
        },
        fused=FUSED_EXPERTS,
        # What predicts a further token.
        ignored=r"model\.mtp_(block|emb_norm|hidden_norm|linear_proj)\..*",
    ),
    gguf_names=gguf_names({"mlp.router_correction": "exp_probs_b"}),
    aliases={"moe_num_experts": "num_experts", "moe_k": "num_experts_per_tok"},
    defaults={"max_position_embeddings": 131072},
    tie_word_embeddings=True,
    models="ERNIE 4.5 0.3B, 21B-A3B, 300B-A47B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
