"""LFM2 (Liquid AI 2025): short convolutions in most layers, attention in some."""

from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm, ShortConv

FULL, CONV = "full_attention", "conv"
# Of both kinds of file: what a layer's parts are called.
HF_PARTS: dict[str, str | tuple[str, ...]] = {
    "input_layernorm": "operator_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "self_attn.out_proj",
    "self_attn.q_norm": "self_attn.q_layernorm",
    "self_attn.k_norm": "self_attn.k_layernorm",
    "short_conv.conv": "conv.conv",
    "short_conv.out_proj": "conv.out_proj",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
CONV_INPUTS = ("short_conv.b_proj", "short_conv.c_proj", "short_conv.x_proj")
HF_FUSED: dict[str, tuple[str, ...]] = {"conv.in_proj": CONV_INPUTS}
HF_TOP: dict[str, str | tuple[str, ...]] = {"model.norm": "embedding_norm"}
GGUF_TOP: dict[str, str | tuple[str, ...]] = {"model.norm": ("token_embd_norm", "output_norm")}
GGUF_PARTS: dict[str, str | tuple[str, ...]] = {
    "short_conv.conv": "shortconv.conv",
    "short_conv.out_proj": "shortconv.out_proj",
}
GGUF_FUSED: dict[str, tuple[str, ...]] = {"shortconv.in_proj": CONV_INPUTS}
ALIASES = {"norm_eps": "rms_norm_eps"}


def _spec(fields: Fields) -> DecoderSpec:
    mlp = MLP(_mlp_width(fields))
    return hybrid_spec(fields, [mlp] * num_layers(fields))


def hybrid_spec(fields: Fields, mlps: list[MLP | Experts]) -> DecoderSpec:
    """Return the decoder whose layers have these MLPs. Raises ModelError."""
    fields.one_of("hidden_act", ["silu"], "silu")
    kinds = _kinds(fields)
    attention = Attention(
        read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=1e6), qk_norm="head"
    )
    has_bias = fields.flag("conv_bias")
    conv = ShortConv(fields.integer("hidden_size"), fields.integer("conv_L_cache", 3), has_bias)
    layers = tuple(
        Layer(None, mlp, state=conv) if kind == CONV else Layer(attention, mlp)
        for kind, mlp in zip(kinds, mlps, strict=True)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-5)))


def _kinds(fields: Fields) -> list[str]:
    """Return what each layer is: what a GGUF file says by layers without keys."""
    count = num_layers(fields)
    if fields.kind == "gguf":
        heads = fields.raw("num_key_value_heads")
        of_layers = heads if isinstance(heads, list) else [heads] * count
        fields.add("num_key_value_heads", max(of_layers) or fields.integer("num_attention_heads"))
        kinds = [FULL if num else CONV for num in of_layers]
    elif (listed := fields.raw("layer_types")) is not None:
        fields.harmless(["full_attn_idxs"])
        kinds = listed
    else:
        indices = fields.raw("full_attn_idxs", list(range(count)))
        kinds = [FULL if index in indices else CONV for index in range(count)]
    if not isinstance(kinds, list) or len(kinds) != count:
        raise ModelError(f"layer_types is no list of {count}, one for each layer")
    if unknown := sorted({str(kind) for kind in kinds} - {FULL, CONV}):
        raise ModelError(f"layer_types: {unknown[0]!r} is not supported; {FULL} and {CONV}")
    return kinds


def _mlp_width(fields: Fields) -> int:
    """Return the MLP's columns: what config.json says, cut by a third and rounded up."""
    width = fields.integer("intermediate_size", 12288)
    adjusts = fields.kind != "gguf" and fields.flag("block_auto_adjust_ff_dim", True)
    multiplier = fields.number("block_ffn_dim_multiplier", 1.0)
    unit = fields.integer("block_multiple_of", 256)
    if not adjusts:
        return width
    if unit <= 0:
        raise ModelError(f"block_multiple_of must be above 0, is {unit}")
    return -(-int(multiplier * int(2 * width / 3)) // unit) * unit


FAMILY = Family(
    name="lfm2",
    huggingface=("Lfm2ForCausalLM",),
    gguf=("lfm2",),
    spec=_spec,
    hf_names=hf_names(HF_PARTS, fused=HF_FUSED, top=HF_TOP),
    gguf_names=gguf_names(GGUF_PARTS, fused=GGUF_FUSED, top=GGUF_TOP),
    aliases=ALIASES | {"block_ff_dim": "intermediate_size", "tie_embedding": "tie_word_embeddings"},
    tie_word_embeddings=True,
    models="LFM2-350M, LFM2-1.2B, LFM2.5",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
