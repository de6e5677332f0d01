"""Gemma 4 12B (Gemma Team 2026), which sees and hears without towers: its decoder is Gemma 4's."""

import dataclasses

from backend.config.families.gemma4 import FAMILY as GEMMA4

FAMILY = dataclasses.replace(
    GEMMA4,
    name="gemma4_unified",
    huggingface=("Gemma4UnifiedForCausalLM", "Gemma4UnifiedForConditionalGeneration"),
    gguf=(),
    # What Gemma4UnifiedTextConfig of transformers says of fields that a config.json lacks.
    defaults=GEMMA4.defaults
    | {
        "max_position_embeddings": 262144,
        "sliding_window": 1024,
        "hidden_size_per_layer_input": 0,
    },
    models="Gemma 4 12B (text)",
)
