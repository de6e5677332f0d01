"""gpt-oss's fields: OpenAI's own, llama.cpp's, and what each comes to."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import gpt_oss
from backend.config.fields import FileKind
from backend.config.model_config import ModelConfig
from backend.config.rope import RopeScaling
from backend.config.spec import Experts, GateClamp
from tests.backend.config.families.family_config import config_of, decoder_of

# config.json of gpt-oss-20b but for its sizes.
PUBLISHED: dict[str, Any] = {
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "attention_dropout": 0.0,
    "eos_token_id": 200002,
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_size": 2880,
    "initial_context_length": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 8,
    "num_local_experts": 32,
    "output_router_logits": False,
    "pad_token_id": 199999,
    "quantization_config": {"quant_method": "mxfp4"},
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
    "rope_theta": 150000,
    "router_aux_loss_coef": 0.9,
    "sliding_window": 128,
    "swiglu_limit": 7.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 1000,
}
GGUF: dict[str, Any] = {
    "max_position_embeddings": 131072,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "moe_intermediate_size": 2880,
    "num_hidden_layers": 4,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "attention.value_length": 64,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "rms_norm_eps": 1e-5,
    "sliding_window": 128,
    "rope_theta": 150000.0,
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 32.0,
    "rope.scaling.original_context_length": 4096,
}
EXPERTS = Experts(32, 4, 2880, clamp=GateClamp(7.0, 1.702, 1.0), has_bias=True, router_bias=True)


def config(kind: FileKind = "huggingface", **changes: Any) -> ModelConfig:
    values = (GGUF if kind == "gguf" else PUBLISHED) | changes
    if kind == "gguf":
        values.pop("attention.value_length")  # read with the file
    said = {name: value for name, value in values.items() if value is not None}
    return config_of(gpt_oss.FAMILY, said, kind)


@pytest.mark.parametrize("kind", ["huggingface", "gguf"])
def test_directory_and_gguf_file_are_the_same_model(kind: FileKind) -> None:
    """A GGUF file has no key for YaRN's ramp, which in this family ends between frequencies."""
    layers = decoder_of(config(kind)).layers
    assert [layer.attends.window for layer in layers] == [128, 0, 128, 0]
    for layer in layers:
        attention = layer.attends
        assert attention.sinks and attention.qkv_bias and attention.out_bias
        assert layer.mlp == EXPERTS
        assert attention.rope and attention.rope.theta == 150000.0
        assert attention.rope.attention_factor == pytest.approx(1.3465735902799727)
        assert attention.rope.scaling == RopeScaling(
            "yarn", 32.0, original_max_position_embeddings=4096, truncate=False
        )


def test_directory_that_says_nothing_has_what_transformers_takes() -> None:
    changes: dict[str, Any] = dict.fromkeys(
        ("rope_scaling", "rope_theta", "layer_types", "swiglu_limit", "head_dim"), None
    )
    assert config(**changes).spec == config().spec


def test_limits_are_the_files() -> None:
    mlp = decoder_of(config(swiglu_limit=5, swiglu_alpha=1.5)).layers[0].mlp
    assert isinstance(mlp, Experts) and mlp.clamp == GateClamp(5.0, 1.5, 1.0)


def test_gguf_file_may_say_which_layers_have_a_window() -> None:
    layers = decoder_of(config("gguf", sliding_window_pattern=[False, True, True, False])).layers
    assert [layer.attends.window for layer in layers] == [0, 128, 128, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"experts_per_token": 2}, "experts_per_token is 2: num_experts_per_tok is 4"),
        ({"swiglu_limit": 0.0}, "limit of a gate must be above 0, is 0"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported; silu"),
        ({"sliding_window": 0}, "layer_types says sliding_attention, and sliding_window nothing"),
        ({"num_shared_experts": 1}, "num_shared_experts is not known for gpt_oss models"),
        ({"num_experts_per_tok": 33, "experts_per_token": 33}, "is 33, the model has 32 experts"),
    ],
)
def test_field_that_would_change_what_is_computed_is_refused(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        config(**changes)
