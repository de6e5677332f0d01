"""What Gemma 2's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.gemma2 import FAMILY
from tests.backend.config.families.family_config import config_of, decoder_of

GGUF: dict[str, Any] = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
}


def test_absent_fields_are_transformers_and_null_ones_say_none() -> None:
    absent = config_of(FAMILY, {"num_hidden_layers": 4})
    assert [layer.attends.window for layer in absent.spec.layers] == [4096, 0, 4096, 0]
    assert absent.spec.layers[1].attends.softcap == 50.0
    assert decoder_of(absent).logit_softcap == 30.0
    null = config_of(FAMILY, {"attn_logit_softcapping": None, "final_logit_softcapping": None})
    assert (null.spec.layers[0].attends.softcap, decoder_of(null).logit_softcap) == (0.0, 0.0)


def test_gguf_file_that_says_little_is_read_as_by_llama_cpp() -> None:
    config = config_of(FAMILY, GGUF, "gguf")
    assert [layer.attends.window for layer in config.spec.layers] == [4096, 0, 4096, 0]
    assert config.spec.layers[0].attends.softcap == 50.0
    assert decoder_of(config).logit_softcap == 30.0
    assert config.spec.norm.offset == 0.0
    large = GGUF | {"num_hidden_layers": 46, "hidden_size": 4608, "num_attention_heads": 32}
    large_scale = config_of(FAMILY, large, "gguf").spec.layers[0].attends.scale
    assert large_scale == 144**-0.5


def test_old_hidden_act_does_not_count() -> None:
    """transformers reads hidden_activation alone."""
    config = config_of(FAMILY, {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"})
    mlp: Any = config.spec.layers[0].mlp
    assert mlp.activation == "gelu_tanh"


def test_tokens_that_see_those_after_them_are_refused() -> None:
    with pytest.raises(ModelError, match="use_bidirectional_attention is True"):
        config_of(FAMILY, {"use_bidirectional_attention": True})
