"""What Gemma 3's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.gemma3 import FAMILY
from backend.config.model_config import ModelConfig
from tests.backend.config.families.family_config import config_of

GGUF: dict[str, Any] = {
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "sliding_window": 512,
}


def windows(config: ModelConfig) -> list[int]:
    return [layer.attends.window for layer in config.spec.layers]


def thetas(config: ModelConfig) -> list[float]:
    return [layer.attends.rope.theta for layer in config.spec.layers if layer.attends.rope]


def gguf(**changes: Any) -> ModelConfig:
    return config_of(FAMILY, GGUF | changes, "gguf")


def test_directory_that_says_little_is_read_as_by_transformers() -> None:
    """The text_config of Gemma 3 4B, whole."""
    config = config_of(
        FAMILY,
        {
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "model_type": "gemma3_text",
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    )
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert config.max_model_len == 131072
    assert windows(config) == ([1024] * 5 + [0]) * 5 + [1024] * 4
    local, full = (config.spec.layers[index].attends for index in (0, 5))
    assert local.rope and full.rope and full.rope.scaling
    assert (local.rope.theta, local.rope.scaling) == (10000.0, None)
    assert (full.rope.theta, full.rope.scaling.factor) == (1000000.0, 8.0)
    assert local.scale == full.scale == 256**-0.5
    assert config.spec.norm.offset == 1.0


def test_gguf_file_has_norms_added_up_and_no_pattern() -> None:
    config = gguf()
    assert windows(config) == [512] * 5 + [0, 512]
    assert thetas(config) == [10000.0] * 5 + [1000000.0, 10000.0]
    assert config.spec.norm.offset == 0.0


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (3, [512, 512, 0, 512, 512, 0, 512]),
        (1, [0] * 7),
        (0, [512] * 7),
        ([False, True] * 3 + [False], [0, 512] * 3 + [0]),
        (True, [512] * 7),
        (False, [0] * 7),
    ],
)
def test_patterns_of_gguf_files(pattern: object, expected: list[int]) -> None:
    """A list that says the same of all layers is read as that, so True is not the number 1."""
    assert windows(gguf(sliding_window_pattern=pattern)) == expected


def test_without_a_window_all_layers_turn_as_those_that_see_all() -> None:
    config = gguf(sliding_window=None)
    assert windows(config) == [0] * 7
    assert thetas(config) == [1000000.0] * 7


def test_llama_cpp_knows_the_27b_by_its_layers() -> None:
    small, large = gguf(), gguf(num_hidden_layers=62, hidden_size=5376, num_attention_heads=32)
    assert small.spec.layers[0].attends.scale == 256**-0.5
    assert large.spec.layers[0].attends.scale == 168**-0.5


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        (
            {
                "architectures": ["Gemma3ForConditionalGeneration"],
                "final_logit_softcapping": 30.0,
            },
            "final_logit_softcapping is 30.0",
        ),
        ({"rope_parameters": {"rope_theta": 1e4}}, "rope_parameters must have full_attention"),
        ({"_sliding_window_pattern": 4}, "_sliding_window_pattern is 4"),
        ({"sliding_window": None, "layer_types": ["sliding_attention"] * 26}, "sliding_window"),
        ({"hidden_activation": "relu6"}, "hidden_activation 'relu6' is not supported"),
        ({"head_gating": True}, "head_gating is not known"),
    ],
)
def test_what_is_not_done_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        config_of(FAMILY, fields)
