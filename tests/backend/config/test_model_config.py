"""Rules of ModelConfig, of rotary scaling and of the choice of format."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.config.rope import RopeScaling
from tests.backend.factories import hf_fields, tiny_config

LLAMA3 = RopeScaling("llama3", 8.0, 1.0, 4.0, original_max_position_embeddings=8192)


@pytest.mark.parametrize("scaling", [RopeScaling("linear", 4.0), LLAMA3])
def test_scaled_frequencies_are_those_of_transformers(scaling: RopeScaling) -> None:
    config = tiny_config(head_dim=128, rope_theta=500000.0, rope_scaling=scaling)
    expected, _ = ROPE_INIT_FUNCTIONS[scaling.kind](LlamaConfig(**hf_fields(config)), "cpu")
    # theirs are computed in float32: a few units in the last place
    assert config.inv_freq() == pytest.approx(expected.tolist(), rel=1e-6)


def test_unscaled_frequencies_fall_from_one_by_equal_ratios() -> None:
    assert tiny_config(head_dim=8, rope_theta=10000.0).inv_freq() == pytest.approx(
        [1.0, 0.1, 0.01, 0.001]
    )


def test_factors_divide_one_frequency_each() -> None:
    scaling = RopeScaling("factors", factors=(1.0, 2.0, 4.0, 5.0))
    assert tiny_config(rope_scaling=scaling).inv_freq() == pytest.approx([1, 0.05, 0.0025, 0.0002])


def test_scaling_by_factors_equals_the_llama3_scaling() -> None:
    plain, scaled = tiny_config().inv_freq(), tiny_config(rope_scaling=LLAMA3).inv_freq()
    factors = tuple(before / after for before, after in zip(plain, scaled, strict=True))
    by_factors = tiny_config(rope_scaling=RopeScaling("factors", factors=factors))
    assert by_factors.inv_freq() == pytest.approx(scaled)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"num_layers": 0}, "num_layers must be above 0"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps must be above 0"),
        ({"num_kv_heads": 3}, "num_heads 8 is not a multiple of num_kv_heads 3"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"rope_scaling": RopeScaling("factors", factors=(1.0,))}, "4 are needed"),
    ],
)
def test_contradicting_numbers_are_refused(overrides: dict[str, Any], words: str) -> None:
    fields = msgspec.structs.asdict(tiny_config()) | overrides
    with pytest.raises(ModelError, match=words):
        ModelConfig(**fields)


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.gguf: no such file"):
        load_config(tmp_path / "nowhere.gguf")


def test_device_is_not_opened() -> None:
    with pytest.raises(ModelError, match="neither a file nor a directory"):
        load_config(Path("/dev/null"))
