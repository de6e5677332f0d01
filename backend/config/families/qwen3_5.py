"""Qwen3.5, and 3.6 and 3.8 after it: delta nets, every fourth layer gated attention."""

from backend.config.families.delta_nets import (
    DEFAULTS,
    FUSED,
    GGUF_FUSED,
    GGUF_GROUPED,
    GGUF_PARTS,
    GROUPED,
    HARMLESS,
    IGNORED,
    PARTS,
    delta_net_spec,
    num_layers,
)
from backend.config.families.family import Family
from backend.config.families.names import gguf_names, hf_names
from backend.config.fields import Fields
from backend.config.spec import MLP, DecoderSpec


def _spec(fields: Fields) -> DecoderSpec:
    mlps = [MLP(fields.integer("intermediate_size"))] * num_layers(fields)
    # transformers has no experts in these models, whatever is said of them.
    fields.must_be("mlp_only_layers", [], "Qwen3.5 of this kind has no experts")
    return delta_net_spec(fields, mlps, is_interleaved=True)


FAMILY = Family(
    name="qwen3_5",
    huggingface=("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"),
    gguf=("qwen35",),
    spec=_spec,
    hf_names=hf_names(PARTS, fused=FUSED, ignored=IGNORED, grouped=GROUPED),
    gguf_names=gguf_names(GGUF_PARTS, fused=GGUF_FUSED, grouped=GGUF_GROUPED),
    defaults=DEFAULTS
    | {
        "vocab_size": 248320,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 32,
        "num_key_value_heads": 4,
    },
    harmless=HARMLESS,
    models="Qwen3.5, Qwen3.6, Qwen3.8, dense (text)",
    checked="logits of a tiny GGUF file beside llama.cpp",
)
