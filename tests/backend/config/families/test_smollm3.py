"""What SmolLM3's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.smollm3 import FAMILY
from backend.config.model_config import ModelConfig
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}


def of(**fields: Any) -> ModelConfig:
    return config_of(FAMILY, SIZES | fields)


def turning(config: ModelConfig) -> list[bool]:
    return [layer.attends.rope is not None for layer in config.spec.layers]


def windows(config: ModelConfig) -> list[int]:
    return [layer.attends.window for layer in config.spec.layers]


def test_every_fourth_layer_does_not_turn_by_default() -> None:
    assert turning(of()) == [True, True, True, False]
    assert turning(of(no_rope_layer_interval=2)) == [True, False, True, False]
    listed = of(no_rope_layers=[0, 1, 1, 1, 0], no_rope_layer_interval=2)
    assert turning(listed) == [False, True, True, True]
    rope = listed.spec.layers[1].attends.rope
    assert rope and rope.theta == 2e6
    keys = SIZES | {"max_position_embeddings": 64, "rms_norm_eps": 1e-6}
    assert turning(config_of(FAMILY, keys, "gguf")) == [True, True, True, False]


def test_window_is_of_layers_that_do_not_turn_by_default() -> None:
    assert windows(of(sliding_window=8)) == [0, 0, 0, 0]
    assert windows(of(sliding_window=8, use_sliding_window=True)) == [0, 0, 0, 8]
    types = ["sliding_attention", "full_attention"] * 2
    listed = of(sliding_window=8, use_sliding_window=True, layer_types=types, max_window_layers=28)
    assert windows(listed) == [8, 0, 8, 0]
    assert windows(of(layer_types=["full_attention"] * 4)) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"no_rope_layers": [1, 0]}, "no_rope_layers is no list of 4"),
        ({"no_rope_layer_interval": 0}, "no_rope_layer_interval must be above 0"),
        ({"layer_types": ["sliding_attention"] * 4, "sliding_window": 8}, "that there is none"),
    ],
)
def test_fields_that_contradict_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        of(**fields)
