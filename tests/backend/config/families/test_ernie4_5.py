"""ERNIE 4.5's fields: which layers have experts, and how heads turn."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import ernie4_5
from backend.config.model_config import ModelConfig
from backend.config.spec import Experts
from tests.backend.config.families.family_config import attention_of, config_of, decoder_of

SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}
MIXTURE: dict[str, Any] = {"moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 32}


def config(**values: Any) -> ModelConfig:
    return config_of(ernie4_5.FAMILY, SIZES | values)


def sparse(**values: Any) -> list[bool]:
    layers = decoder_of(config(**MIXTURE, **values)).layers
    return [isinstance(layer.mlp, Experts) for layer in layers]


def test_layers_with_experts_have_a_first_a_last_and_a_step() -> None:
    assert sparse() == [False, True, True, True]
    assert sparse(moe_layer_start_index=2) == [False, False, True, True]
    assert sparse(moe_layer_end_index=2) == [False, True, True, False]
    assert sparse(moe_layer_interval=2) == [False, True, False, True]


def test_heads_turn_pair_by_pair_in_directories_too() -> None:
    for found, size in ((config(), 128), (config(**MIXTURE), 16)):
        rope = attention_of(decoder_of(found).layers[0]).rope
        assert rope and rope.is_interleaved
        assert (found.head_dim, rope.dim, rope.theta) == (size, size, 5e5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"moe_layer_interval": 0}, "moe_layer_interval must be above 0, is 0"),
        ({"use_bias": True}, "use_bias: experts with biases are not supported"),
        ({"moe_gate": "hash"}, "moe_gate is 'hash': only topk"),
        ({"moe_use_aux_free": False}, "moe_use_aux_free is False"),
    ],
)
def test_what_is_not_computed_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        config(**MIXTURE, **values)
