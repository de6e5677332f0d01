"""What GPT-2's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.gpt2 import FAMILY
from backend.config.model_config import ModelConfig
from tests.backend.config.families.family_config import config_of


def scales(config: ModelConfig) -> list[float | None]:
    return [layer.attends.scale for layer in config.spec.layers]


def test_absent_fields_are_those_of_the_smallest() -> None:
    config = config_of(FAMILY, {"n_inner": None, "n_ctx": 1024, "n_layer": 2})
    assert (config.hidden_size, config.num_heads, config.max_model_len) == (768, 12, 1024)
    assert config.intermediate_size == 4 * 768
    assert scales(config) == [0.125, 0.125]


def test_scores_may_be_scaled_by_the_layer_or_not_at_all() -> None:
    by_layer = {"n_layer": 2, "scale_attn_by_inverse_layer_idx": True}
    assert scales(config_of(FAMILY, by_layer)) == [0.125, 0.0625]
    assert scales(config_of(FAMILY, by_layer | {"scale_attn_weights": False})) == [1.0, 0.5]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4"),
        ({"n_head": "12"}, "n_head is '12'"),
    ],
)
def test_what_is_not_done_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        config_of(FAMILY, fields)
