"""Reads attention to compressed keys and values, and DeepSeek's experts, from fields."""

from typing import Literal

import msgspec

from backend.config.errors import ModelError
from backend.config.expert_fields import read_experts
from backend.config.fields import Fields
from backend.config.rope import Rope, mscale
from backend.config.rope_fields import read_rope, rope_parameters
from backend.config.sizes import num_layers
from backend.config.spec import Attention, Experts, Latent, QueryScaling

# Names of tensors of directories, and of llama.cpp.
ROUTER_PARTS: dict[str, str | tuple[str, ...]] = {
    "mlp.router": "mlp.gate",
    "mlp.router_correction": "mlp.gate.e_score_correction",
    "mlp.shared.gate_proj": "mlp.shared_experts.gate_proj",
    "mlp.shared.up_proj": "mlp.shared_experts.up_proj",
    "mlp.shared.down_proj": "mlp.shared_experts.down_proj",
}
LATENT_PARTS = ROUTER_PARTS | {
    "self_attn.q_a_norm": "self_attn.q_a_layernorm",
    "self_attn.kv_a_proj": "self_attn.kv_a_proj_with_mqa",
    "self_attn.kv_a_norm": "self_attn.kv_a_layernorm",
}
GGUF_ROUTER_PARTS: dict[str, str | tuple[str, ...]] = {"mlp.router_correction": "exp_probs_b"}
GGUF_LATENT_PARTS = GGUF_ROUTER_PARTS | {
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_norm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj": "attn_kv_a_mqa",
    "self_attn.kv_a_norm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.k_b_proj": "attn_k_b",
    "self_attn.v_b_proj": "attn_v_b",
}
# Sizes of heads and groups that a GGUF file of these has, and that mean something else elsewhere.
GGUF_OWN = frozenset({"attention.value_length", "expert_group_count"})


def read_latent(
    fields: Fields,
    *,
    query_scaling: QueryScaling | None = None,
    known: frozenset[str] = frozenset(),
    turning: float = 1.0,
) -> Attention:
    """Return the attention of all layers of a directory. Raises ModelError.

    known: as of read_rope. turning: which partial_rotary_factor says that what is to turn turns.
    """
    latent = Latent(
        kv_rank=fields.integer("kv_lora_rank", 512),
        rope_dim=fields.integer("qk_rope_head_dim", 64),
        nope_dim=fields.integer("qk_nope_head_dim", 128),
        v_dim=fields.integer("v_head_dim", 128),
        q_rank=_rank(fields),
        is_interleaved=fields.flag("rope_interleave", True),
    )
    head_dim = latent.nope_dim + latent.rope_dim
    # Files say by it what turns, or the whole.
    said, sizes = fields.integer("head_dim", head_dim), (latent.rope_dim, head_dim, latent.v_dim)
    if said not in sizes:
        raise ModelError(
            f"head_dim is {said}: qk_rope_head_dim and qk_nope_head_dim say {sizes[:2]}"
        )
    fields.must_be("qk_head_dim", head_dim, f"heads have {head_dim} numbers")
    _say_heads(fields, head_dim)
    parameters = rope_parameters(fields)
    for share in (parameters.get("partial_rotary_factor"), fields.raw("partial_rotary_factor")):
        if share is not None and share not in (1.0, turning):
            raise ModelError(
                f"partial_rotary_factor is {share}: qk_rope_head_dim, {latent.rope_dim}, says how"
                " many numbers turn"
            )
    rope = read_rope(fields, latent.rope_dim, known=known)
    factor = float(parameters.get("factor") or 1.0)
    of_all = float(parameters.get("mscale_all_dim") or 0.0)
    is_scaled = rope.scaling is not None and bool(of_all)
    scale = head_dim**-0.5 * (mscale(factor, of_all) ** 2 if is_scaled else 1.0)
    has_bias = fields.flag("attention_bias")
    return Attention(
        rope,
        scale=scale,
        qkv_bias=has_bias,
        out_bias=has_bias,
        query_scaling=query_scaling,
        latent=latent,
    )


def read_gguf_latent(fields: Fields, eps: float) -> Attention:
    """Return the attention of all layers of a GGUF file, as llama.cpp's deepseek2 has it."""
    rope_dim = fields.integer("rope.dimension_count")
    # Files from before 2025 have heads' sizes where others have those of rows.
    whole, value = fields.integer("head_dim"), fields.integer("attention.value_length")
    head_dim = fields.integer("attention.key_length_mla", whole)
    has_rank = "blk.0.attn_q.weight" not in fields.tensors
    rank = fields.integer("attention.q_lora_rank", 0)
    latent = Latent(
        kv_rank=fields.integer("attention.kv_lora_rank"),
        rope_dim=rope_dim,
        nope_dim=head_dim - rope_dim,
        v_dim=fields.integer("attention.value_length_mla", value),
        q_rank=rank if has_rank else 0,
        norm_eps=eps,
        is_split="blk.0.attn_k_b.weight" in fields.tensors,
    )
    _say_heads(fields, head_dim)
    rope, factor = _gguf_rope(fields, rope_dim)
    return Attention(
        rope,
        scale=head_dim**-0.5 * factor**2,
        query_scaling=_gguf_query_scaling(fields),
        latent=latent,
    )


def read_deepseek_experts(fields: Fields, experts: Experts) -> Experts:
    """Return experts with the groups, scale and renormalisation that a directory says."""
    grouped = _grouped(fields, experts, "n_group", "topk_group")
    return msgspec.structs.replace(
        grouped, weight_scale=fields.number("routed_scaling_factor", experts.weight_scale)
    )


def read_routed_experts(
    fields: Fields, default_width: int, *, top_k: int = 8, is_corrected: bool = True
) -> Experts:
    """Return the experts of a directory whose fields are DeepSeek V3's.

    default_width, top_k: where the configuration leaves them out. is_corrected: scores are
    sigmoids, and a bias on them decides who is chosen; else they are a softmax.
    """
    width = fields.integer("moe_intermediate_size", default_width)
    experts = read_experts(
        fields,
        width,
        renormalise=fields.flag("norm_topk_prob", True),
        top_k=top_k,
        shared_width=width * fields.integer("n_shared_experts", 1),
        router="sigmoid" if is_corrected else "softmax",
        has_correction=is_corrected,
    )
    return read_deepseek_experts(fields, experts)


def read_gguf_experts(
    fields: Fields, default: Literal["softmax", "sigmoid"] = "softmax"
) -> Experts:
    """Return the experts of a GGUF file. default: the router of one that does not say."""
    width = fields.integer("moe_intermediate_size")
    experts = read_experts(
        fields,
        width,
        renormalise=fields.flag("expert_weights_norm"),
        shared_width=width * fields.integer("expert_shared_count", 0),
    )
    kind = fields.integer("expert_gating_func", 0)
    if kind == 0:
        # As llama.cpp takes files from before there was the key: GLM-4.7-Flash by its sizes.
        is_flash = num_layers(fields) in (47, 48) and _num_tokens(fields) == 154880
        kind = 2 if is_flash or default == "sigmoid" else 1
    if kind not in (1, 2):
        raise ModelError(f"{fields.label('expert_gating_func')} {kind} is not supported; 1 and 2")
    has_correction = any(name.endswith(".exp_probs_b.bias") for name in fields.tensors)
    experts = msgspec.structs.replace(
        experts,
        router="sigmoid" if kind == 2 else "softmax",
        has_correction=has_correction,
        weight_scale=fields.number("expert_weights_scale", 1.0) or 1.0,
    )
    return _grouped(fields, experts, "expert_group_count", "expert_group_used_count")


def _grouped(fields: Fields, experts: Experts, count: str, used: str) -> Experts:
    num, top = fields.integer(count, 1), fields.integer(used, 1)
    if num < 1 or top < 1:
        name, value = (count, num) if num < 1 else (used, top)
        raise ModelError(f"{fields.label(name)} must be above 0, is {value}")
    if num == 1 and top == 1:
        return experts
    size = experts.num // num
    if experts.num % num or (size < 2 and experts.group_score == "two_best"):
        raise ModelError(
            f"{fields.label(count)} is {num}: {experts.num} experts cannot be shared out over so"
            " many groups"
        )
    if not 0 < top <= num or top * size < experts.top_k:
        raise ModelError(
            f"{fields.label(used)} is {top}: {experts.top_k} experts are chosen from the best of"
            f" {num} groups of {size}"
        )
    return msgspec.structs.replace(experts, num_groups=num, top_groups=top)


def _rank(fields: Fields) -> int:
    rank = fields.raw("q_lora_rank")
    return 0 if rank is None else fields.integer("q_lora_rank")


def _say_heads(fields: Fields, head_dim: int) -> None:
    """Say the sizes of heads as other families have them: files say those of rows, or of parts."""
    heads = fields.integer("num_attention_heads")
    if fields.kind != "gguf":
        fields.must_be("num_key_value_heads", heads, f"each of {heads} heads has keys of its own")
    fields.add("num_key_value_heads", heads)
    fields.add("head_dim", head_dim)


def _gguf_rope(fields: Fields, dim: int) -> tuple[Rope, float]:
    """Return how positions turn, and what, squared, queries times keys are multiplied by."""
    # The converter writes a tenth of what it is; the rest is llama.cpp's arithmetic.
    of_all = 10 * fields.number("rope.scaling.yarn_log_multiplier", 0.0)
    fields.add("rope.scaling.yarn_log_multiplier", 1.0 if of_all else 0.0)
    rope = read_rope(fields, dim)
    if rope.scaling is None or rope.scaling.kind != "yarn":
        return rope, 1.0
    return rope, rope.attention_factor * mscale(rope.scaling.factor, of_all)


def _gguf_query_scaling(fields: Fields) -> QueryScaling | None:
    beta = fields.number("attention.temperature_scale", 0.0)
    length = fields.integer("attention.temperature_length", 0)
    return QueryScaling(beta, length) if beta and length else None


def _num_tokens(fields: Fields) -> int:
    return fields.tensors.get("token_embd.weight", (0,))[0]
