"""What Phi-3's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.phi3 import FAMILY
from backend.config.rope import Rope
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 8192,
}
LONGROPE: dict[str, Any] = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}


def rope_of(**fields: Any) -> Rope:
    rope = config_of(FAMILY, SIZES | fields).spec.layers[0].attends.rope
    assert rope
    return rope


@pytest.mark.parametrize("kind", ["longrope", "su", "yarn"])
def test_kinds_older_names_are_longrope_of_4096_tokens(kind: str) -> None:
    rope = rope_of(rope_scaling={"type": kind} | LONGROPE)
    assert rope.scaling and rope.scaling.kind == "longrope"
    assert rope.scaling.original_max_position_embeddings == 4096
    assert rope.attention_factor == pytest.approx((1 + 1 / 12) ** 0.5)  # ln 2 / ln 4096


def test_original_context_beside_the_parameters_wins() -> None:
    inside = {"type": "longrope", "original_max_position_embeddings": 512} | LONGROPE
    for fields, expected in (({}, 4096), ({"original_max_position_embeddings": 1024}, 1024)):
        scaling = rope_of(rope_scaling=dict(inside), **fields).scaling
        assert scaling and scaling.original_max_position_embeddings == expected


def test_part_of_a_head_turns() -> None:
    assert rope_of(partial_rotary_factor=0.75).dim == 12
    assert rope_of().dim == 16
    with pytest.raises(ModelError, match="32 of a head's 16 dimensions cannot be rotated"):
        rope_of(partial_rotary_factor=2)


def test_window_of_gguf_files_counts_unless_it_is_0() -> None:
    keys = SIZES | {"rms_norm_eps": 1e-5, "rope.dimension_count": 16}
    for said, window in ((512, 512), (0, 0)):
        config = config_of(FAMILY, keys | {"sliding_window": said}, "gguf")
        assert config.spec.layers[1].attends.window == window


@pytest.mark.parametrize(
    "fields", [{"attention_bias": True}, {"lm_head_bias": True}, {"interpolate_factor": 2}]
)
def test_what_is_not_computed_is_refused(fields: dict[str, Any]) -> None:
    name, value = next(iter(fields.items()))
    with pytest.raises(ModelError, match=f"{name} is {value}"):
        config_of(FAMILY, SIZES | fields)
