"""Qwen2 and Qwen2.5 (Yang et al. 2024): a Llama with biases on queries, keys and values."""

from backend.config.biases import has_qkv_bias
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import hf_layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    fields.must_be("use_mrope", False, "positions of images are not supported")
    # What a config.json means that does not say is another in those that see.
    theta, eps = (1e6, 1e-5) if is_seeing(fields) else (1e4, 1e-6)
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), theta=theta, known=OF_IMAGES)
    if fields.kind == "gguf":
        fields.harmless(GGUF_OF_IMAGES)
    qkv_bias = fields.kind == "huggingface" or has_qkv_bias(fields)
    mlp = MLP(fields.integer("intermediate_size"))
    layers = tuple(
        Layer(Attention(rope, window=window, qkv_bias=qkv_bias), mlp)
        for window in hf_layer_windows(fields, num_layers(fields), has_switch=True)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", eps)))


def is_seeing(fields: Fields) -> bool:
    """Whether a config.json is of a model that sees, too."""
    return any("VL" in str(name) for name in fields.raw("architectures", []))


# How the positions of images turn a head: those of text are alike in all sections.
OF_IMAGES = frozenset({"mrope_section", "mrope_interleaved"})
GGUF_OF_IMAGES = frozenset({"rope.dimension_sections", "n_deepstack_layers"})
# A size of the window is no window.
WINDOW_DEFAULTS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}


FAMILY = Family(
    name="qwen2",
    huggingface=(
        "Qwen2ForCausalLM",
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
    ),
    gguf=("qwen2", "qwen2vl"),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults=WINDOW_DEFAULTS,
    models="Qwen2, Qwen2.5, Qwen2.5-Coder; Qwen2-VL and 2.5-VL (text)",
    checked="Qwen2.5-Coder-1.5B Q4_K_M served, perplexity beside llama.cpp; tiny GGUF files",
)
