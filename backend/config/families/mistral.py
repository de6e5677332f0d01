"""Mistral (Jiang et al. 2023) and Ministral 8B: a Llama whose tokens may see a window.

As GGUF files they are Llamas.
"""

from backend.config.errors import ModelError
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.rope_fields import read_rope, rotary_dim
from backend.config.sizes import head_dim, num_layers
from backend.config.spec import MLP, Attention, DecoderSpec, Layer, Norm
from backend.config.windows import layer_windows


def _spec(fields: Fields) -> DecoderSpec:
    fields.one_of("hidden_act", ["silu"], "silu")
    for flag in ("attention_bias", "mlp_bias"):
        fields.must_be(flag, False, "no model of this family has biases")
    rope = read_rope(fields, rotary_dim(fields, head_dim(fields)))
    if fields.text("model_type", "mistral") == "mistral" and "layer_types" in fields:
        # transformers reads them in Ministral's class alone, and says so.
        raise ModelError(
            "layer_types is not known for MistralForCausalLM\n"
            "if they count, it is a model of MinistralForCausalLM"
        )
    mlp = MLP(fields.integer("intermediate_size"))
    layers = tuple(
        Layer(Attention(rope, window=window), mlp)
        for window in layer_windows(fields, num_layers(fields))
    )
    return DecoderSpec(layers, Norm(fields.number("rms_norm_eps", 1e-6)))


FAMILY = Family(
    name="mistral",
    huggingface=("MistralForCausalLM", "MinistralForCausalLM"),
    gguf=(),
    spec=_spec,
    hf_names=hf_names(),
    gguf_names=gguf_names(),
    defaults={"sliding_window": 4096},
    models="Mistral 7B, Nemo, Small 2; Ministral 8B",
)
