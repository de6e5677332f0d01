"""Rules of ModelConfig, of rotary scaling and of the choice of format."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.config.rope import Rope, RopeScaling
from tests.backend.factories import hf_fields, rope_of, tiny_config

LLAMA3 = RopeScaling("llama3", 8.0, 1.0, 4.0, original_max_position_embeddings=8192)


@pytest.mark.parametrize("scaling", [RopeScaling("linear", 4.0), LLAMA3])
def test_scaled_frequencies_are_those_of_transformers(scaling: RopeScaling) -> None:
    config = tiny_config(head_dim=128, rope_theta=500000.0, rope_scaling=scaling)
    inv_freq = rope_of(config).inv_freq(config.max_model_len)
    expected, _ = ROPE_INIT_FUNCTIONS[scaling.kind](LlamaConfig(**hf_fields(config)), "cpu")
    # theirs are computed in float32: a few units in the last place
    assert inv_freq == pytest.approx(expected.tolist(), rel=1e-6)


def test_unscaled_frequencies_fall_from_one_by_equal_ratios() -> None:
    assert Rope(8, 10000.0).inv_freq(512) == pytest.approx([1.0, 0.1, 0.01, 0.001])


def test_factors_divide_one_frequency_each() -> None:
    scaling = RopeScaling("factors", factors=(1.0, 2.0, 4.0, 5.0))
    assert Rope(8, 10000.0, scaling).inv_freq(512) == pytest.approx([1, 0.05, 0.0025, 0.0002])


def test_scaling_by_factors_equals_the_llama3_scaling() -> None:
    plain, scaled = Rope(8).inv_freq(512), Rope(8, scaling=LLAMA3).inv_freq(512)
    factors = tuple(before / after for before, after in zip(plain, scaled, strict=True))
    by_factors = Rope(8, scaling=RopeScaling("factors", factors=factors))
    assert by_factors.inv_freq(512) == pytest.approx(scaled)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"num_layers": 0}, "num_layers must be above 0"),
        ({"num_kv_heads": 3}, "num_heads 8 is not a multiple of num_kv_heads 3"),
        ({"head_dim": 7}, "even number of dimensions, not 7"),
        ({"rope_scaling": RopeScaling("factors", factors=(1.0,))}, "4 are needed"),
    ],
)
def test_contradicting_numbers_are_refused(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        tiny_config(**overrides)


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.gguf: no such file"):
        load_config(tmp_path / "nowhere.gguf")


def test_device_is_not_opened() -> None:
    with pytest.raises(ModelError, match="neither a file nor a directory"):
        load_config(Path("/dev/null"))
