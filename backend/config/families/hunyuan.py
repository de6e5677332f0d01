"""Hunyuan (Tencent 2025): a Llama whose heads are normalised once they have turned; some have
experts beside an MLP of the same width."""

from typing import Any

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.errors import ModelError
from backend.config.expert_fields import expert_width, read_experts
from backend.config.families.family import Family
from backend.config.families.names import FUSED_EXPERTS, gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope import Rope
from backend.config.rope_fields import DEFAULT_THETA, read_rope, rope_parameters, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Experts, Layer, Norm


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    # As Tencent's own code had them; transformers knows one way alone.
    for field, only in (("use_qk_norm", True), ("use_cla", False), ("mlp_bias", False)):
        fields.must_be(field, only, f"only {only} is known in this family")
    for field in ("use_mla", "group_limited_greedy"):
        fields.must_be(field, False, "only false is known in this family")
    attention = Attention(
        _rope(fields),
        qkv_bias=has_qkv_bias(fields),
        out_bias=has_out_bias(fields),
        qk_norm="head",
        norm_turned=True,
    )
    is_moe = fields.integer("num_experts", 0) > 1 or _is_moe(fields)
    mlp = _experts(fields) if is_moe else MLP(fields.integer("intermediate_size"))
    norm = Norm(fields.number("rms_norm_eps", None if fields.kind == "gguf" else 1e-5))
    return DecoderSpec((Layer(attention, mlp),) * num_layers(fields), norm)


def _rope(fields: Fields) -> Rope:
    """Return how heads turn: by a base that grows with alpha, which is called dynamic and stays."""
    dim = rotary_dim(fields, head_dim(fields))
    parameters = {} if fields.kind == "gguf" else rope_parameters(fields)
    alpha = parameters.get("alpha")
    kind = parameters.get("rope_type") or parameters.get("type")
    if kind != "dynamic" or not alpha:
        return read_rope(fields, dim, known=frozenset({"alpha"}))
    base = float(parameters.get("rope_theta") or fields.number("rope_theta", DEFAULT_THETA))
    return Rope(dim, base * float(alpha) ** (dim / (dim - 2)))


def _is_moe(fields: Fields) -> bool:
    return "HunYuanMoEV1ForCausalLM" in fields.raw("architectures", [])


def _experts(fields: Fields) -> Experts:
    if fields.kind == "gguf":
        width = expert_width(fields)
        shared = fields.integer("shared_expert_intermediate_size", 0)
        shared = shared or fields.integer("intermediate_size")
        fields.harmless(["expert_shared_count", "intermediate_size"])
        return read_experts(fields, width, renormalise=True, shared_width=shared)
    width = fields.integer("intermediate_size")
    for field, only in (
        ("num_experts_per_tok", None),
        ("moe_intermediate_size", width),
        ("num_shared_expert", 1),
    ):
        value = _of_all_layers(fields, field)
        if only is not None and value not in (None, only):
            raise ModelError(f"{field} is {value}: only {only} is known in this family")
        fields.add(field, value)
    for field, only in (("use_mixed_mlp_moe", True), ("moe_drop_tokens", False)):
        fields.must_be(field, only, f"only {only} is known in this family")
    return read_experts(fields, width, renormalise=True, top_k=1, shared_width=width)


def _of_all_layers(fields: Fields, name: str) -> Any:
    """Return what a field says of every layer. Raises ModelError where it says several things."""
    value = fields.raw(name)
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1 or len(value) < num_layers(fields):
        raise ModelError(f"{fields.label(name)} is {value!r}: layers that differ are not known")
    return value[0]


_NORMS: dict[str, str | tuple[str, ...]] = {
    "self_attn.q_norm": "self_attn.query_layernorm",
    "self_attn.k_norm": "self_attn.key_layernorm",
}
_EXPERTS: dict[str, str | tuple[str, ...]] = {
    "mlp.router": "mlp.gate.wg",
    "mlp.shared.gate_proj": "mlp.shared_mlp.gate_proj",
    "mlp.shared.up_proj": "mlp.shared_mlp.up_proj",
    "mlp.shared.down_proj": "mlp.shared_mlp.down_proj",
}

FAMILY = Family(
    name="hunyuan",
    huggingface=("HunYuanDenseV1ForCausalLM", "HunYuanMoEV1ForCausalLM"),
    gguf=("hunyuan-dense", "hunyuan-moe"),
    spec=_spec,
    hf_names=hf_names(_NORMS | _EXPERTS, fused=FUSED_EXPERTS),
    gguf_names=gguf_names(),
    aliases={"moe_topk": "num_experts_per_tok", "attention_head_dim": "head_dim"},
    # What HunYuanDenseV1Config of transformers says of fields that a config.json lacks.
    defaults={
        "vocab_size": 290943,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "num_experts": 1,
    },
    # Of its own code: what is not read beside num_experts of 1, and what turns nothing else.
    harmless=frozenset(
        """
        eod_token_id org_vocab_size add_classification_head class_num mask_init_id norm_type
        num_media_embeds pool_type text_end_id text_start_id use_rotary_pos_emb capacity_factor
        moe_layer_num_skipped moe_random_routing_dropped_token num_experts_per_tok
        moe_intermediate_size num_shared_expert use_mixed_mlp_moe moe_drop_tokens kv_lora_rank
        q_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim cla_share_factor
        enable_lm_head_fp32 im_start_id im_end_id im_newline_id image_token_id
        """.split()
    ),
    models="Hunyuan 0.5B to 7B, Hunyuan-MT, Hunyuan A13B",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
