"""Granite MoE (IBM 2024): a Granite with experts, and in some models a shared one."""

from backend.config.expert_fields import read_experts
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    is_gguf = fields.kind == "gguf"
    size = head_dim(fields)
    # A GGUF file without a scale leaves it at that of other models, as llama.cpp has it.
    scale = fields.number("attention_multiplier", size**-0.5 if is_gguf else 1.0)
    has_bias = not is_gguf and fields.flag("attention_bias")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, size), interleaved=True),
        scale=scale or size**-0.5,
        qkv_bias="blk.0.attn_q.bias" in fields.tensors or has_bias,
        out_bias="blk.0.attn_output.bias" in fields.tensors or has_bias,
    )
    experts = read_experts(
        fields,
        fields.integer("intermediate_size"),
        # The softmax of the chosen scores alone: that of all, renormalised.
        renormalise=True,
        shared_width=fields.integer("shared_expert_intermediate_size", 0),
    )
    residual = fields.number("residual_multiplier", 1.0) or 1.0
    layer = Layer(attention, experts, residual_scale=residual)
    return DecoderSpec(
        (layer,) * num_layers(fields),
        Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6)),
        embedding_scale=fields.number("embedding_multiplier", 1.0) or 1.0,
        logit_scale=1.0 / fields.number("logits_scaling", None if is_gguf else 1.0),
    )


_BLOCK = "block_sparse_moe."
_GATE, _UP, _DOWN = (f"mlp.experts.{{e}}.{name}_proj" for name in ("gate", "up", "down"))

FAMILY = Family(
    name="granitemoe",
    huggingface=("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
    gguf=("granitemoe",),
    spec=_spec,
    hf_names=hf_names(
        {
            "mlp.router": (f"{_BLOCK}router.layer", f"{_BLOCK}router"),
            "mlp.shared.down_proj": "shared_mlp.output_linear",
        },
        fused={
            f"{_BLOCK}input_linear": (_GATE, _UP),
            f"{_BLOCK}output_linear": (_DOWN,),
            f"{_BLOCK}experts.gate_up_proj": (_GATE, _UP),
            f"{_BLOCK}experts.down_proj": (_DOWN,),
            "shared_mlp.input_linear": ("mlp.shared.gate_proj", "mlp.shared.up_proj"),
        },
    ),
    gguf_names=gguf_names(),
    aliases={
        "num_local_experts": "num_experts",
        "shared_intermediate_size": "shared_expert_intermediate_size",
    },
    models="Granite 3 MoE",
)
