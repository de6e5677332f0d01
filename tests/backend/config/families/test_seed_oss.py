"""Seed-OSS's fields: a flag for each bias, of which directories have one by default."""

from typing import Any

import pytest

from backend.config.families import seed_oss
from backend.config.spec import MLP
from tests.backend.config.families.family_config import attention_of, config_of, decoder_of

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "attention_dropout": 0.1,
    "residual_dropout": 0.1,
}


@pytest.mark.parametrize(
    ("changes", "biases"),
    [
        ({}, (True, False, False)),
        ({"attention_bias": False, "attention_out_bias": True}, (False, True, False)),
        ({"mlp_bias": True}, (True, False, True)),
    ],
)
def test_each_bias_has_a_flag(changes: dict[str, Any], biases: tuple[bool, ...]) -> None:
    config = config_of(seed_oss.FAMILY, SIZES | changes)
    [layer, _] = decoder_of(config).layers
    attention = attention_of(layer)
    assert isinstance(layer.mlp, MLP)
    assert (attention.qkv_bias, attention.out_bias, layer.mlp.has_bias) == biases
    assert (config.head_dim, config.max_model_len) == (128, 524288)
