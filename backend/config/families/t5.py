"""T5, T5 v1.1 and Flan-T5 (Raffel et al. 2020; Chung et al. 2022): encoder and decoder.

Positions are told by a bias on the scores alone, and scores are not scaled. mT5 and UMT5, which
differ in few things, are made of the same pieces.
"""

from backend.config.activations import read_activation
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import GGUF_IGNORED, TOWERS
from backend.config.fields import Fields
from backend.config.sizes import num_layers
from backend.config.sources import Names
from backend.config.spec import (
    MLP,
    Attention,
    DecoderSpec,
    Layer,
    Norm,
    PositionBias,
    PromptEncoder,
)

# The model ends nowhere: beyond max_distance all keys are equally far. It was trained on inputs of
# n_positions, 512, and people give Flan-T5 up to 2,048.
LEAST_MODEL_LEN = 2048


def spec_of(fields: Fields, *, logit_scale: float, has_shared_bias: bool = True) -> DecoderSpec:
    """Return what a model of this kin computes.

    The decoder begins with the padding where a file names no token for it, as in training.
    logit_scale: what logits are multiplied by. has_shared_bias: all layers have the first's.
    """
    fields.must_be("is_encoder_decoder", True, "the decoder of a T5 reads what its encoder made")
    norm = Norm(fields.number("rms_norm_eps", 1e-6))
    layer = Layer(Attention(rope=None, scale=1.0), _read_mlp(fields))
    encoder = PromptEncoder(
        (layer,) * num_layers(fields),
        PositionBias(
            fields.integer("relative_attention_num_buckets", 32),
            fields.integer("relative_attention_max_distance", 128),
            has_shared_bias,
        ),
        start_token_id=fields.integer("decoder_start_token_id", fields.integer("pad_token_id", 0)),
        max_model_len=max(LEAST_MODEL_LEN, 2 * fields.integer("n_positions", 0)),
    )
    num_decoder_layers = num_layers(fields, "num_decoder_layers", num_layers(fields))
    return DecoderSpec(
        (layer,) * num_decoder_layers, norm, logit_scale=logit_scale, encoder=encoder
    )


def tied_scale(fields: Fields) -> float:
    """Return what logits are multiplied by where the embedding is the head as well."""
    return float(max(1, fields.integer("hidden_size")) ** -0.5)


def _spec(fields: Fields) -> DecoderSpec:
    """A head of its own is not scaled. transformers writes so since it ties all of them in name.

    llama.cpp scales none: the best token of a tied model is the same, its probability is not. Its
    files of UMT5 are T5's with a bias in each layer.
    """
    if fields.kind == "gguf":
        fields.harmless(("layer_norm_eps",))  # that of rms, once more
        is_scaled = "output.weight" not in fields.tensors
        has_shared_bias = "dec.blk.1.attn_rel_b.weight" not in fields.tensors
    else:
        is_tied = fields.flag("tie_word_embeddings", True)
        is_scaled = fields.flag("scale_decoder_outputs", is_tied)
        has_shared_bias = True
    scale = tied_scale(fields) if is_scaled else 1.0
    return spec_of(fields, logit_scale=scale, has_shared_bias=has_shared_bias)


def _read_mlp(fields: Fields) -> MLP:
    width = fields.integer("intermediate_size")
    if fields.kind == "gguf":
        # As llama.cpp has it, which knows no other activations of this architecture.
        is_gated = "enc.blk.0.ffn_gate.weight" in fields.tensors
        return MLP(width, "gelu_tanh" if is_gated else "relu", is_gated)
    parts = fields.text("feed_forward_proj", "relu").split("-")
    if len(parts) > 2 or (len(parts) == 2 and parts[0] != "gated"):
        raise ModelError(
            f"feed_forward_proj {'-'.join(parts)!r} is neither an activation nor gated-ACTIVATION"
        )
    is_gated = fields.flag("is_gated_act", len(parts) == 2)
    # What was released as gated-gelu has the approximation by tanh.
    named = "gelu_new" if parts == ["gated", "gelu"] else parts[-1]
    return MLP(width, read_activation(fields, "dense_act_fn", named), is_gated)


def _attention_names(theirs: str, prefix: str = "self_attn") -> dict[str, str]:
    return {f"{prefix}.{ours}_proj": f"{theirs}.{ours}" for ours in "qkvo"}


def _mlp_names(place: int) -> dict[str, str | tuple[str, ...]]:
    inner = f"layer.{place}.DenseReluDense"
    return {
        "post_attention_layernorm": f"layer.{place}.layer_norm",
        "mlp.gate_proj": f"{inner}.wi_0",
        "mlp.up_proj": (f"{inner}.wi_1", f"{inner}.wi"),
        "mlp.down_proj": f"{inner}.wo",
    }


_SELF: dict[str, str | tuple[str, ...]] = {
    "input_layernorm": "layer.0.layer_norm",
    "self_attn.relative_bias": "layer.0.SelfAttention.relative_attention_bias",
    **_attention_names("layer.0.SelfAttention"),
}
# Saved as any of these, and sometimes more than once.
EMBEDDINGS = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
HF_NAMES = Names(
    ("", "model.", "transformer."),
    "decoder.block.{i}.",
    {
        "model.embed_tokens": EMBEDDINGS,
        "model.norm": "decoder.final_layer_norm",
        "encoder.norm": "encoder.final_layer_norm",
        "lm_head": "/lm_head",
    },
    {
        **_SELF,
        "cross_attention_layernorm": "layer.1.layer_norm",
        **_attention_names("layer.1.EncDecAttention", "cross_attn"),
        **_mlp_names(2),
    },
    # Of old files: transformers ignores it, and copies of the embedding are looked at before.
    ignored=(
        rf".*EncDecAttention\.relative_attention_bias\.weight|{TOWERS}"
        r"|((en|de)coder\.embed_tokens|shared)\.weight"
    ),
    encoder_layer="encoder.block.{i}.",
    encoder_parts={**_SELF, **_mlp_names(1)},
)

_GGUF_PARTS: dict[str, str | tuple[str, ...]] = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_o",
    "self_attn.relative_bias": "attn_rel_b",
    "cross_attention_layernorm": "cross_attn_norm",
    "cross_attn.q_proj": "cross_attn_q",
    "cross_attn.k_proj": "cross_attn_k",
    "cross_attn.v_proj": "cross_attn_v",
    "cross_attn.o_proj": "cross_attn_o",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GGUF_NAMES = Names(
    ("",),
    "dec.blk.{i}.",
    {
        "model.embed_tokens": "token_embd",
        "model.norm": "dec.output_norm",
        "encoder.norm": "enc.output_norm",
        "lm_head": "output",
    },
    _GGUF_PARTS,
    ignored=rf"{GGUF_IGNORED}|dec\.blk\.\d+\.cross_attn_rel_b\.weight",
    encoder_layer="enc.blk.{i}.",
    encoder_parts=_GGUF_PARTS,
)

ALIASES = {
    "d_model": "hidden_size",
    "d_kv": "head_dim",
    "d_ff": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "layer_norm_epsilon": "rms_norm_eps",
}
# How it was trained and initialised, and fields that are read nowhere in transformers.
HARMLESS = frozenset(
    """dropout_rate classifier_dropout initializer_factor output_past scalable_attention
    forced_decoder_ids max_position_embeddings""".split()
)

FAMILY = Family(
    name="t5",
    huggingface=("T5ForConditionalGeneration", "T5WithLMHeadModel"),
    gguf=("t5",),
    spec=_spec,
    hf_names=HF_NAMES,
    gguf_names=GGUF_NAMES,
    aliases=ALIASES,
    # What T5Config of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 32128,
        "hidden_size": 512,
        "head_dim": 64,
        "intermediate_size": 2048,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
    },
    harmless=HARMLESS,
    tie_word_embeddings=True,
    copies=EMBEDDINGS,
    models="T5, T5 v1.1, Flan-T5",
    checked="text and logits, tiny models: no weights of a release were to be had",
)
