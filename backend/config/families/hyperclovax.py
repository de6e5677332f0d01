"""HyperCLOVA X SEED (NAVER 2025): Granite's multipliers, and norms behind each part as well."""

from backend.config.activations import read_activation
from backend.config.families.family import Family
from backend.config.families.granite import multiplier
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    size, has_bias = head_dim(fields), fields.flag("attention_bias")
    attention = Attention(
        read_rope(fields, rotary_dim(fields, size)),
        scale=fields.number("attention_multiplier", size**-0.5),
        qkv_bias=has_bias,
        out_bias=has_bias,
    )
    mlp = MLP(
        fields.integer("intermediate_size"),
        read_activation(fields, "hidden_act", "silu"),
        has_bias=fields.flag("mlp_bias"),
    )
    layer = Layer(
        attention,
        mlp,
        norms="around" if fields.flag("use_post_norm", True) else "before",
        residual_scale=multiplier(fields, "residual_multiplier"),
    )
    return DecoderSpec(
        (layer,) * num_layers(fields),
        Norm(fields.number("rms_norm_eps", 1e-6)),
        embedding_scale=multiplier(fields, "embedding_multiplier"),
        # They are multiplied, where Granite's are divided.
        logit_scale=multiplier(fields, "logits_scaling"),
    )


FAMILY = Family(
    name="hyperclovax",
    huggingface=("HyperCLOVAXForCausalLM",),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(
        {"attention_output_norm": "post_norm1", "mlp_output_norm": "post_norm2"},
    ),
    gguf_names=gguf_names(),
    # Of training.
    harmless=frozenset({"resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"}),
    models="HyperCLOVA X SEED Think 14B",
)
