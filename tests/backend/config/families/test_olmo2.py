"""What the fields of OLMo 2 and 3 mean; tests/backend/models has their logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.olmo2 import FAMILY
from backend.config.model_config import ModelConfig
from backend.config.rope import Rope
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
OLMO3 = SIZES | {"model_type": "olmo3"}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
GGUF = SIZES | {
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 5e5,
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
}


def windows(config: ModelConfig) -> list[int]:
    return [layer.attends.window for layer in config.spec.layers]


def ropes(config: ModelConfig) -> list[Rope]:
    """Return those of a layer with a window, and of one that sees all."""
    found = [config.spec.layers[index].attends.rope for index in (0, 3)]
    assert found[0] and found[1]
    return [found[0], found[1]]


def test_olmo2_sees_all_and_olmo3_every_fourth_layer() -> None:
    assert windows(config_of(FAMILY, SIZES | {"model_type": "olmo2"})) == [0, 0, 0, 0]
    assert windows(config_of(FAMILY, OLMO3)) == [4096, 4096, 4096, 0]
    types = ["full_attention", "sliding_attention"] * 2
    told = OLMO3 | {"layer_types": types, "sliding_window": 8}
    assert windows(config_of(FAMILY, told)) == [0, 8, 0, 8]
    with pytest.raises(ModelError, match="layer_types is not known for olmo2"):
        config_of(FAMILY, SIZES | {"model_type": "olmo2", "layer_types": types})


def test_only_layers_that_see_all_are_stretched() -> None:
    older = config_of(FAMILY, OLMO3 | {"rope_scaling": dict(YARN), "rope_theta": 1e6})
    sliding, full = ropes(older)
    assert sliding == Rope(16, 1e6)
    assert (full.theta, full.scaling and full.scaling.kind) == (1e6, "yarn")
    assert ropes(config_of(FAMILY, OLMO3)) == [Rope(16, 5e5), Rope(16, 5e5)]


def test_parameters_by_layer_type_are_each_layers_own() -> None:
    nested = {
        "full_attention": YARN | {"rope_theta": 1e6},
        "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
    }
    sliding, full = ropes(config_of(FAMILY, OLMO3 | {"rope_parameters": nested}))
    assert (sliding.theta, sliding.scaling and sliding.scaling.kind) == (1e4, "linear")
    assert (full.theta, full.scaling and full.scaling.kind) == (1e6, "yarn")
    del nested["sliding_attention"]
    sliding, full = ropes(config_of(FAMILY, OLMO3 | {"rope_parameters": nested}))
    assert (sliding, full.theta) == (Rope(16, 5e5), 1e6)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, [0, 0, 0, 0]),
        ({"sliding_window": 8}, [8, 8, 8, 0]),
        ({"sliding_window": 8, "sliding_window_pattern": 2}, [8, 0, 8, 0]),
        ({"sliding_window": 8, "sliding_window_pattern": [1, 0, 0, 1]}, [8, 0, 0, 8]),
        ({"sliding_window": 8, "sliding_window_pattern": True}, [8, 8, 8, 8]),
    ],
)
def test_gguf_keys_say_which_layers_have_the_window(
    keys: dict[str, Any], expected: list[int]
) -> None:
    assert windows(config_of(FAMILY, GGUF | keys, "gguf")) == expected


def test_layers_with_a_window_have_the_base_of_gguf_files() -> None:
    windowed = GGUF | {"sliding_window": 8}
    sliding, full = ropes(config_of(FAMILY, windowed, "gguf"))
    assert sliding == Rope(16, 5e5)
    assert full.scaling and full.scaling.kind == "yarn"
    told = config_of(FAMILY, windowed | {"rope.freq_base_swa": 1e4}, "gguf")
    assert ropes(told)[0] == Rope(16, 1e4)
