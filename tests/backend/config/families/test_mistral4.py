"""Mistral Small 4's fields: YaRN with a scale of queries, and which class it comes in."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.config import huggingface
from backend.config.errors import ModelError
from backend.config.families import mistral4
from backend.config.hf_directory import read_json
from backend.config.spec import Attention, Latent, QueryScaling
from tests.backend.config.families.family_config import attention_of, config_of, decoder_of

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
}


def attention(**changes: Any) -> Attention:
    return attention_of(decoder_of(config_of(mistral4.FAMILY, SIZES | changes)).layers[0])


def test_directory_that_says_nothing_has_what_transformers_takes() -> None:
    found = attention()
    assert found.latent == Latent(256, 64, 64, 128, q_rank=1024)
    assert found.query_scaling == QueryScaling(0.1, 8192)
    # 0.1 ln 128 + 1
    assert found.scale == pytest.approx(1.4852030263919618**2 * 128**-0.5)


def test_share_that_turns_must_be_that_of_the_rotated_numbers() -> None:
    rope = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    assert attention(rope_parameters=rope).query_scaling is None
    with pytest.raises(ModelError, match=r"partial_rotary_factor is 0\.25"):
        attention(rope_parameters=rope | {"partial_rotary_factor": 0.25})


def test_model_that_sees_is_known_by_its_decoder(tmp_path: Path) -> None:
    """The class of the whole is that of Mistral Small 3, too."""
    path = tmp_path / "config.json"
    for kind, expected in (
        ("mistral4", "Mistral4ForCausalLM"),
        ("mistral", "Mistral3ForConditionalGeneration"),
    ):
        path.write_text(
            json.dumps(
                {
                    "architectures": ["Mistral3ForConditionalGeneration"],
                    "text_config": {"model_type": kind},
                }
            )
        )
        assert huggingface._architecture(read_json(path, huggingface._Kind)) == expected
