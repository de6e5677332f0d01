"""EXAONE 4's fields: which layers have a window, and which turn."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import exaone4
from backend.config.fields import FileKind
from tests.backend.config.families.family_config import attention_of, config_of, decoder_of

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
}
TYPES = ["sliding_attention"] * 3 + ["full_attention"]


def layers(kind: FileKind = "huggingface", **changes: Any) -> list[tuple[int, bool]]:
    """Return of each layer its window, and whether it turns."""
    found = decoder_of(config_of(exaone4.FAMILY, SIZES | changes, kind)).layers
    attentions = [attention_of(layer) for layer in found]
    return [(attention.window, attention.rope is not None) for attention in attentions]


def test_layers_that_see_all_turn_where_there_are_no_windows() -> None:
    assert layers(sliding_window=None) == [(0, True)] * 4
    assert layers() == [(4096, True)] * 3 + [(0, False)]
    types: dict[str, Any] = {"layer_types": TYPES, "sliding_window_pattern": "LLLG"}
    assert layers(sliding_window=8, **types) == [(8, True)] * 3 + [(0, False)]


def test_llama_cpp_knows_windows_by_the_number_of_layers() -> None:
    assert layers("gguf", sliding_window=8) == [(0, True)] * 4
    found = layers("gguf", num_hidden_layers=64, sliding_window=8)
    assert found == ([(8, True)] * 3 + [(0, False)]) * 16


def test_pattern_of_letters_without_types_is_refused() -> None:
    with pytest.raises(ModelError, match="sliding_window_pattern is 'LLLG', not an integer"):
        layers(sliding_window_pattern="LLLG")
