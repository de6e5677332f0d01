"""Names of tensors that most families share."""

from backend.config.sources import Names

HF_TOP: dict[str, str | tuple[str, ...]] = {
    "model.embed_tokens": "embed_tokens",
    "model.norm": "norm",
    "lm_head": ("/lm_head", "/model.lm_head", "/language_model.lm_head"),
    "classifier": "/score",
}
HF_PREFIXES = ("model.", "", "model.language_model.", "language_model.model.")
# Written by old versions of transformers, derived from the configuration since.
HF_IGNORED = r".*\.rotary_emb\.inv_freq"
# Towers of models that see or hear. They are served as text only.
TOWERS = (
    r"(model\.)?(vision_tower|vision_model|visual|multi_modal_projector|audio_tower|embed_vision"
    r"|embed_audio|vision_embedder|vision_embed_tokens)\..*"
)

# As Qwen's and OLMoE's have experts: each by itself, or, in memory of transformers 5, in stacks.
EXPERT_PARTS: dict[str, str | tuple[str, ...]] = {"mlp.router": "mlp.gate"}
FUSED_EXPERTS = {
    "mlp.experts.gate_up_proj": ("mlp.experts.{e}.gate_proj", "mlp.experts.{e}.up_proj"),
    "mlp.experts.down_proj": ("mlp.experts.{e}.down_proj",),
}

GGUF_TOP: dict[str, str | tuple[str, ...]] = {
    "model.embed_tokens": "token_embd",
    "model.embed_positions": "position_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
GGUF_PARTS: dict[str, str | tuple[str, ...]] = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.sinks": "attn_sinks",
    "attention_output_norm": "post_attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp_output_norm": "post_ffw_norm",
    "mlp.router": "ffn_gate_inp",
    "mlp.shared.gate_proj": "ffn_gate_shexp",
    "mlp.shared.up_proj": "ffn_up_shexp",
    "mlp.shared.down_proj": "ffn_down_shexp",
    "mlp.shared_gate": "ffn_gate_inp_shexp",
    "mlp.experts.{e}.gate_proj": "ffn_gate.{e}",
    "mlp.experts.{e}.up_proj": "ffn_up.{e}",
    "mlp.experts.{e}.down_proj": "ffn_down.{e}",
}
GGUF_FUSED = {
    "ffn_gate_exps": ("mlp.experts.{e}.gate_proj",),
    "ffn_up_exps": ("mlp.experts.{e}.up_proj",),
    "ffn_down_exps": ("mlp.experts.{e}.down_proj",),
    "ffn_gate_up_exps": ("mlp.experts.{e}.gate_proj", "mlp.experts.{e}.up_proj"),
    "attn_qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
}
# Read with the configuration (rope_freqs), or derived from it (attn_rot_embd, in old files).
GGUF_IGNORED = (
    r"rope_(freqs|factors_(long|short))\.weight|blk\.\d+\.(attn_rot_embd|rope_freqs).weight"
)


def hf_names(
    parts: dict[str, str | tuple[str, ...]] | None = None,
    *,
    fused: dict[str, tuple[str, ...]] | None = None,
    top: dict[str, str | tuple[str, ...]] | None = None,
    prefixes: tuple[str, ...] = HF_PREFIXES,
    layer: str = "layers.{i}.",
    transposed: frozenset[str] = frozenset(),
    interleaved: dict[str, tuple[str, ...]] | None = None,
    ignored: str = "(?!)",
    grouped: dict[str, tuple[str, ...]] | None = None,
) -> Names:
    """Return names of Hugging Face's directories: Llama's but for those that are given."""
    return Names(
        prefixes,
        layer,
        HF_TOP | (top or {}),
        parts or {},
        fused or {},
        transposed,
        f"{HF_IGNORED}|{TOWERS}|{ignored}",
        interleaved or {},
        grouped=grouped or {},
    )


def gguf_names(
    parts: dict[str, str | tuple[str, ...]] | None = None,
    *,
    fused: dict[str, tuple[str, ...]] | None = None,
    grouped: dict[str, tuple[str, ...]] | None = None,
    top: dict[str, str | tuple[str, ...]] | None = None,
    ignored: str = "(?!)",
) -> Names:
    """Return llama.cpp's names, which are the same for all families but for those given."""
    return Names(
        ("",),
        "blk.{i}.",
        GGUF_TOP | (top or {}),
        GGUF_PARTS | (parts or {}),
        GGUF_FUSED | (fused or {}),
        ignored=f"{GGUF_IGNORED}|{ignored}",
        grouped=grouped or {},
    )
