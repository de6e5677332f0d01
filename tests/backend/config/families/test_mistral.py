"""What Mistral's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.mistral import FAMILY
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def windows_of(**fields: Any) -> list[int]:
    return [layer.attends.window for layer in config_of(FAMILY, SIZES | fields).spec.layers]


def test_absent_window_is_one_and_a_null_one_none() -> None:
    assert windows_of() == [4096, 4096]
    assert windows_of(sliding_window=10) == [10, 10]
    assert windows_of(sliding_window=None) == [0, 0]


def test_layer_types_are_ministrals() -> None:
    types = ["sliding_attention", "full_attention"]
    assert windows_of(model_type="ministral", layer_types=types) == [4096, 0]
    assert windows_of(model_type="ministral") == [4096, 4096]
    with pytest.raises(ModelError, match="layer_types is not known for MistralForCausalLM"):
        windows_of(model_type="mistral", layer_types=types)
    with pytest.raises(ModelError, match="says sliding_attention, and sliding_window nothing"):
        windows_of(model_type="ministral", layer_types=types, sliding_window=None)


def test_biases_are_refused() -> None:
    assert windows_of(attention_bias=False)
    with pytest.raises(ModelError, match="attention_bias is True: no model of this family"):
        windows_of(attention_bias=True)
