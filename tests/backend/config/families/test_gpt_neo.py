"""What GPT-Neo's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.gpt_neo import FAMILY
from tests.backend.config.families.family_config import config_of


def test_types_are_repeated_as_often_as_they_say() -> None:
    fields = {"num_layers": 5, "attention_types": [[["global", "local"], 2], [["global"], 1]]}
    types = ["global", "local", "global", "local", "global"]
    config = config_of(FAMILY, fields | {"attention_layers": types})
    assert [layer.attends.window for layer in config.spec.layers] == [0, 256, 0, 256, 0]
    assert {layer.attends.scale for layer in config.spec.layers} == {1.0}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_layers": 5}, "attention_types has 24 entries, num_layers is 5"),
        ({"attention_types": [[["round"], 24]]}, "attention_types: 'round' is not supported"),
        ({"attention_types": 3}, "attention_types is no list"),
        ({"attention_layers": ["local"] * 24}, "attention_layers is .*: attention_types says"),
        ({"window_size": 0}, "window_size must be above 0"),
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4"),
    ],
)
def test_what_is_not_done_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        config_of(FAMILY, fields)
