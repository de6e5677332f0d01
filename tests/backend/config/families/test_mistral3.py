"""What the fields of Mistral Small 3 and Ministral 3 mean; tests/backend/models has logits."""

from typing import Any

from backend.config.families.mistral3 import FAMILY
from backend.config.model_config import ModelConfig
from backend.config.rope import RopeScaling
from backend.config.spec import QueryScaling
from tests.backend.config.families.family_config import config_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "head_dim": 16,
}


def attention_of(config: ModelConfig) -> Any:
    return config.spec.layers[0].attention


def test_ministral_without_parameters_has_those_of_its_class() -> None:
    fields = {name: value for name, value in SIZES.items() if name != "head_dim"}
    config = config_of(FAMILY, fields | {"model_type": "ministral3"})
    attention = attention_of(config)
    assert config.head_dim == 128
    assert attention.query_scaling == QueryScaling(0.1, 16384)
    assert (attention.rope.theta, attention.rope.attention_factor) == (1e6, 1.0)
    assert attention.rope.scaling.factor == 16.0
    assert attention.window == 0


def test_parameters_without_a_beta_scale_no_queries() -> None:
    parameters = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    config = config_of(
        FAMILY, SIZES | {"model_type": "ministral3", "rope_parameters": dict(parameters)}
    )
    assert attention_of(config).query_scaling is None
    scaled = parameters | {"llama_4_scaling_beta": 0.2}
    config = config_of(FAMILY, SIZES | {"model_type": "ministral3", "rope_parameters": scaled})
    assert attention_of(config).query_scaling == QueryScaling(0.2, 64)


def test_text_model_of_mistral_small_is_a_mistral() -> None:
    config = config_of(FAMILY, SIZES | {"model_type": "mistral"})
    assert (attention_of(config).window, config.spec.norm.eps) == (4096, 1e-6)
    config = config_of(FAMILY, SIZES | {"model_type": "mistral", "sliding_window": None})
    assert attention_of(config).window == 0


def test_gguf_keys_are_of_the_queries_too() -> None:
    keys = SIZES | {
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope.dimension_count": 16,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 256,
        "rope.scaling.yarn_log_multiplier": 1.0,
        "attention.temperature_scale": 0.1,
    }
    attention = attention_of(config_of(FAMILY, keys, "gguf"))
    assert attention.query_scaling == QueryScaling(0.1, 256)
    yarn = RopeScaling("yarn", 4.0, original_max_position_embeddings=256)
    assert (attention.rope.scaling, attention.rope.attention_factor) == (yarn, 1.0)
    del keys["attention.temperature_scale"]
    assert attention_of(config_of(FAMILY, keys, "gguf")).query_scaling is None
