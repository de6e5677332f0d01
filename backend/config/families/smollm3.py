"""SmolLM3 (Hugging Face 2025): a Llama of which some layers are not told positions (NoPE)."""

from backend.config.biases import has_bias, has_out_bias, has_qkv_bias
from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import SLIDING, layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)), interleaved=True, theta=2e6)
    qkv_bias, out_bias = has_qkv_bias(fields), has_out_bias(fields)
    mlp = MLP(
        fields.integer("intermediate_size"), has_bias=has_bias(fields, "mlp_bias", "ffn_gate")
    )
    has_rope = _has_rope(fields)
    layers = tuple(
        Layer(
            Attention(rope if turns else None, window=window, qkv_bias=qkv_bias, out_bias=out_bias),
            mlp,
        )
        for turns, window in zip(has_rope, _windows(fields, has_rope), strict=True)
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-6)))


def _has_rope(fields: Fields) -> list[bool]:
    """Return which layers turn queries and keys; llama.cpp knows every fourth that does not."""
    every = fields.integer("no_rope_layer_interval", 4)
    listed = fields.raw("no_rope_layers")
    if listed is None:
        if every <= 0:
            raise ModelError(f"no_rope_layer_interval must be above 0, is {every}")
        return [bool((index + 1) % every) for index in range(num_layers(fields))]
    # A 1 says that a layer has rope, in spite of the name. The list may be longer.
    if not isinstance(listed, list) or len(listed) < num_layers(fields):
        raise ModelError(f"no_rope_layers is no list of {num_layers(fields)}, one for each layer")
    return [bool(turns) for turns in listed[: num_layers(fields)]]


def _windows(fields: Fields, has_rope: list[bool]) -> list[int]:
    """Return the window of each layer: where there is any, by default of those without rope."""
    fields.harmless(["max_window_layers", "layer_types", "sliding_window"])
    is_used = fields.flag("use_sliding_window")
    if "layer_types" in fields and (is_used or SLIDING in fields.raw("layer_types")):
        return layer_windows(fields, len(has_rope), has_switch=True)
    window = fields.integer("sliding_window", 0) if is_used else 0
    return [0 if turns else window for turns in has_rope]


FAMILY = Family(
    name="smollm3",
    huggingface=("SmolLM3ForCausalLM",),
    gguf=("smollm3",),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults={"use_sliding_window": False},
    tie_word_embeddings=True,
    models="SmolLM3",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
