"""What OPT's fields mean; tests/backend/models has its logits."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families.opt import FAMILY
from backend.config.spec import LearnedPositions, Norm
from tests.backend.config.families.family_config import config_of, decoder_of


def test_absent_fields_are_those_of_the_smallest() -> None:
    config = config_of(FAMILY, {})
    assert (config.hidden_size, config.num_layers, config.head_dim) == (768, 12, 64)
    assert config.spec.positions == LearnedPositions(2050, 2)
    assert config.spec.norm == Norm(1e-5, "layer", has_bias=True)
    assert decoder_of(config).has_final_norm and config.embedding_width == 768


def test_350m_has_norms_after_sums_and_projections() -> None:
    """Its config.json, but for what it has in common with the others."""
    config = config_of(
        FAMILY,
        {
            "do_layer_norm_before": False,
            "ffn_dim": 4096,
            "hidden_size": 1024,
            "layerdrop": 0.0,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "prefix": "</s>",
            "word_embed_proj_dim": 512,
        },
    )
    assert {layer.norms for layer in config.spec.layers} == {"after_sum"}
    assert not decoder_of(config).has_final_norm
    assert config.embedding_width == 512


def test_galactica_has_no_biases_and_gelu() -> None:
    config = config_of(
        FAMILY,
        {
            "activation_function": "gelu",
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
            "learned_embeddings": True,
            "scale_embeddings": False,
        },
    )
    mlp: Any = config.spec.layers[0].mlp
    assert (mlp.activation, mlp.has_bias, mlp.is_gated) == ("gelu", False, False)
    assert not config.spec.norm.has_weight


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"learned_embeddings": False}, "learned_embeddings is False"),
        ({"scale_embeddings": True}, "scale_embeddings is True"),
        ({"activation_function": "mish"}, "activation_function 'mish' is not supported"),
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4"),
    ],
)
def test_what_is_not_done_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        config_of(FAMILY, fields)
