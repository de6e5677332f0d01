"""Falcon's fields: how many KV heads and norms each of its architectures has."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.falcon import FAMILY
from tests.backend.config.families.family_config import config_of, decoder_of


@pytest.mark.parametrize(
    ("fields", "kv_heads", "norms"),
    [
        ({}, 1, "parallel"),
        ({"num_kv_heads": 71}, 1, "parallel"),  # as Falcon 7B's file has it
        ({"multi_query": False}, 71, "parallel"),
        ({"multi_query": False, "parallel_attn": False}, 71, "before"),
        ({"new_decoder_architecture": True, "num_kv_heads": 71}, 71, "parallel_two"),
        (
            {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 1, "num_kv_heads": 71},
            71,
            "parallel",
        ),
    ],
)
def test_kv_heads_and_norms(fields: dict[str, Any], kv_heads: int, norms: str) -> None:
    config = config_of(FAMILY, fields)
    assert config.num_kv_heads == kv_heads
    assert {layer.norms for layer in decoder_of(config).layers} == {norms}


def test_names_of_old_files() -> None:
    """As those of RWForCausalLM have them."""
    config = config_of(FAMILY, {"n_head": 8, "n_layer": 3, "hidden_size": 64, "n_head_kv": 8})
    assert (config.num_heads, config.num_layers, config.num_kv_heads) == (8, 3, 1)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"alibi": True}, "ALiBi"),
        ({"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn is 2"),
        ({"parallel_attn": False, "new_decoder_architecture": True}, "side by side"),
    ],
)
def test_what_is_not_known_is_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        config_of(FAMILY, fields)
