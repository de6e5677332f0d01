"""Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024): a Llama of fused tensors, longrope, a window."""

from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm

_FUSED_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_FUSED_MLP = ("mlp.gate_proj", "mlp.up_proj")


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    for flag in ("attention_bias", "mlp_bias", "lm_head_bias"):
        fields.must_be(flag, False, "no model of this family has biases")
    for field in ("full_attn_mod", "interpolate_factor"):
        fields.must_be(field, 1, "only 1 is supported")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields), 1.0)),
        # llama.cpp reads the window and sees all tokens ("results might be suboptimal"); the model
        # was trained with it, and transformers has it.
        window=max(fields.integer("sliding_window", 0), 0),
    )
    mlp = MLP(fields.integer("intermediate_size"))
    norm = Norm(fields.number("rms_norm_eps", 1e-5))
    return DecoderSpec((Layer(attention, mlp),) * num_layers(fields), norm)


FAMILY = Family(
    name="phi3",
    huggingface=("Phi3ForCausalLM",),
    gguf=("phi3",),
    spec=_spec,
    hf_names=hf_names(
        fused={"self_attn.qkv_proj": _FUSED_ATTENTION, "mlp.gate_up_proj": _FUSED_MLP}
    ),
    # There is no ffn_gate: ffn_up has the gate's rows above its own.
    gguf_names=gguf_names({"mlp.gate_proj": (), "mlp.up_proj": ()}, fused={"ffn_up": _FUSED_MLP}),
    # It wins over rope_scaling's.
    defaults={"original_max_position_embeddings": 4096},
    harmless=frozenset({"resid_pdrop", "embd_pdrop"}),
    models="Phi-3, Phi-3.5 mini; Phi-4, Phi-4 mini",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
