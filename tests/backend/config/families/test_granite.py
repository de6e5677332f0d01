"""What Granite's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.granite import FAMILY
from tests.backend.config.families.family_config import config_of, decoder_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-6,
}
MULTIPLIERS = {
    "attention_multiplier": 0.5,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.25,
    "logits_scaling": 8.0,
}


@pytest.mark.parametrize("kind", ["huggingface", "gguf"])
def test_four_multipliers(kind: Any) -> None:
    spec = decoder_of(config_of(FAMILY, SIZES | MULTIPLIERS, kind))
    assert (spec.embedding_scale, spec.logit_scale) == (12.0, 1 / 8)
    assert (spec.layers[0].attends.scale, spec.layers[0].residual_scale) == (0.5, 0.25)


def test_absent_attention_multiplier_is_1_in_directories_alone() -> None:
    assert config_of(FAMILY, SIZES).spec.layers[0].attends.scale == 1.0
    zeros = dict.fromkeys(MULTIPLIERS, 0.0)
    for values in (SIZES, SIZES | zeros):
        spec = decoder_of(config_of(FAMILY, values, "gguf"))
        assert spec.layers[0].attends.scale is None
        assert (spec.embedding_scale, spec.logit_scale) == (1.0, 1.0)
        assert spec.layers[0].residual_scale == 1.0


@pytest.mark.parametrize("name", sorted(MULTIPLIERS))
def test_directory_cannot_multiply_by_0(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} is 0"):
        config_of(FAMILY, SIZES | {name: 0})


def test_gguf_files_say_whether_anything_turns() -> None:
    still = config_of(FAMILY, SIZES | {"rope.scaling.finetuned": False}, "gguf")
    assert still.spec.layers[0].attends.rope is None
    with pytest.raises(ModelError, match="num_experts is 8"):
        config_of(FAMILY, SIZES | {"num_experts": 8}, "gguf")
