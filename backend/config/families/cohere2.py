"""Command R7B and Command A (Cohere 2024-25): windows in three layers of four, which alone turn."""

from backend.config.biases import has_out_bias, has_qkv_bias
from backend.config.families.cohere import DEFAULTS, cohere_rope, cohere_spec
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.sizes import num_layers
from backend.config.spec import Attention, DecoderSpec
from backend.config.windows import layer_windows, window_pattern


def _spec(fields: Fields) -> DecoderSpec:
    # Named in Cohere's files; transformers knows one way alone.
    for field, only in (
        ("use_qk_norm", False),
        ("rotary_pct", 1.0),
        ("position_embedding_type", "rope_gptj"),
        ("order_of_interleaved_layers", "local_attn_first"),
        ("use_gated_activation", True),
        ("use_parallel_block", True),
    ):
        fields.must_be(field, only, f"only {only!r} is known in this family")
    fields.must_be("rope.freq_base_swa", fields.raw("rope_theta"), "all layers turn by one base")
    rope = cohere_rope(fields, 10000.0)
    pattern = window_pattern(fields, num_layers(fields), 4)
    windows = layer_windows(fields, num_layers(fields), pattern, default=4096)
    qkv_bias, out_bias = has_qkv_bias(fields), has_out_bias(fields)
    attentions = [
        Attention(rope if window else None, window=window, qkv_bias=qkv_bias, out_bias=out_bias)
        for window in windows
    ]
    return cohere_spec(fields, attentions)


FAMILY = Family(
    name="cohere2",
    huggingface=("Cohere2ForCausalLM",),
    gguf=("cohere2",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults=DEFAULTS,
    # layer_switch: sliding_window_pattern again, in old files.
    harmless=frozenset(
        "cache_implementation layer_switch use_embedding_sharing use_parallel_embedding".split()
    ),
    tie_word_embeddings=True,
    models="Command R7B, Command A",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
