"""Granite 3 (IBM 2024): a Llama whose embedding, scores, residuals and logits are multiplied."""

from backend.config.activations import read_activation
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    is_gguf = fields.kind == "gguf"
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), interleaved=True)
    if is_gguf:
        fields.must_be("num_experts", 0, "models with experts are another family")
    # llama.cpp's switch of Granite's rotation.
    turns = fields.flag("rope.scaling.finetuned", True) if is_gguf else True
    attention = Attention(
        rope=rope if turns else None,
        scale=attention_scale(fields),
        qkv_bias=_has_bias(fields, "attention_bias", "attn_q"),
        out_bias=_has_bias(fields, "attention_bias", "attn_output"),
    )
    mlp = MLP(
        fields.integer("intermediate_size"),
        read_activation(fields, "hidden_act", "silu"),
        has_bias=_has_bias(fields, "mlp_bias", "ffn_gate"),
    )
    layer = Layer(attention, mlp, residual_scale=multiplier(fields, "residual_multiplier"))
    return DecoderSpec(
        (layer,) * num_layers(fields),
        Norm(fields.number("rms_norm_eps", None if is_gguf else 1e-6)),
        embedding_scale=multiplier(fields, "embedding_multiplier"),
        logit_scale=1 / multiplier(fields, "logits_scaling"),
    )


def multiplier(fields: Fields, name: str) -> float:
    """Return a multiplier. llama.cpp takes 0 for one that is not said."""
    value = fields.number(name, 1.0)
    if value == 0.0 and fields.kind == "huggingface":
        raise ModelError(f"{name} is 0: nothing would be left to compute with")
    return value or 1.0


def attention_scale(fields: Fields) -> float | None:
    """Return what scores are multiplied by; None for head_dim ** -0.5, as GGUF files mean it."""
    if fields.kind == "huggingface":
        return multiplier(fields, "attention_multiplier")
    return fields.number("attention_multiplier", 0.0) or None


def _has_bias(fields: Fields, name: str, tensor: str) -> bool:
    # In GGUF files biases say by being there that they are to be added.
    if fields.kind == "gguf":
        return f"blk.0.{tensor}.bias" in fields.tensors
    return fields.flag(name)


FAMILY = Family(
    name="granite",
    huggingface=("GraniteForCausalLM",),
    gguf=("granite",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    models="Granite 3",
)
