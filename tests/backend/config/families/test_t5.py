"""What the fields of T5's kin mean; tests/backend/models has their logits."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from backend.config.errors import ModelError
from backend.config.families import mt5, t5, umt5
from backend.config.load import load_config
from backend.config.model_config import ModelConfig
from backend.config.spec import MLP, DecoderSpec
from tests.backend.config.families.family_config import config_of
from tests.backend.models.tiny_t5 import CASES, TinyT5

SMALL: dict[str, Any] = {"d_model": 32, "d_kv": 8, "num_heads": 6, "d_ff": 64, "vocab_size": 100}


def spec_of(**fields: Any) -> DecoderSpec:
    return decoder_of(config_of(t5.FAMILY, SMALL | fields))


def decoder_of(config: ModelConfig) -> DecoderSpec:
    assert isinstance(config.spec, DecoderSpec)
    return config.spec


def test_config_that_says_little_is_the_first_t5() -> None:
    config = config_of(t5.FAMILY, {"vocab_size": 32128})
    spec, encoder = decoder_of(config), config.encoder
    assert (config.hidden_size, config.num_heads, config.head_dim) == (512, 8, 64)
    assert encoder is not None and (len(encoder.layers), len(spec.layers)) == (6, 6)
    assert (encoder.bias.num_buckets, encoder.bias.max_distance) == (32, 128)
    assert spec.layers[0].mlp == MLP(2048, "relu", is_gated=False)
    assert spec.layers[0].attends.scale == 1.0
    assert encoder.start_token_id == 0
    assert spec.logit_scale == 512**-0.5


def test_heads_may_be_wider_and_the_decoder_shorter() -> None:
    config = config_of(t5.FAMILY, {**SMALL, "num_layers": 3, "num_decoder_layers": 2})
    encoder = config.encoder
    assert encoder is not None
    assert (len(encoder.layers), config.num_layers) == (3, 2)
    assert config.num_heads * config.head_dim > config.hidden_size


@pytest.mark.parametrize(
    ("fields", "mlp"),
    [
        ({"feed_forward_proj": "gated-gelu"}, MLP(64, "gelu_tanh", is_gated=True)),
        ({"feed_forward_proj": "gated-silu"}, MLP(64, "silu", is_gated=True)),
        ({"feed_forward_proj": "gelu"}, MLP(64, "gelu", is_gated=False)),
        (
            {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu", "is_gated_act": True},
            MLP(64, "gelu", is_gated=True),
        ),
    ],
)
def test_activation_is_what_the_file_calls_it(fields: dict[str, Any], mlp: MLP) -> None:
    assert spec_of(**fields).layers[0].mlp == mlp


@pytest.mark.parametrize(
    ("fields", "is_scaled"),
    [
        ({}, True),
        ({"tie_word_embeddings": True}, True),
        # As T5 v1.1 and Flan-T5 were released, and as transformers 5.23 writes them again.
        ({"tie_word_embeddings": False}, False),
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),
    ],
)
def test_logits_are_scaled_where_the_head_is_the_embedding(
    fields: dict[str, Any], is_scaled: bool
) -> None:
    assert spec_of(**fields).logit_scale == (32**-0.5 if is_scaled else 1.0)


def test_mt5_is_never_scaled_nor_umt5_with_its_own_head() -> None:
    for tie in (True, False):
        fields = SMALL | {"tie_word_embeddings": tie}
        assert decoder_of(config_of(mt5.FAMILY, fields)).logit_scale == 1.0
        assert decoder_of(config_of(umt5.FAMILY, fields)).logit_scale == 32**-0.5
        own = config_of(umt5.FAMILY, fields, tensors={"lm_head.weight": (100, 32)})
        assert decoder_of(own).logit_scale == 1.0
        assert own.encoder is not None and not own.encoder.bias.is_shared


def test_input_and_answer_have_room_for_twice_the_training() -> None:
    assert config_of(t5.FAMILY, SMALL | {"n_positions": 512}).max_model_len == 2048
    assert config_of(t5.FAMILY, SMALL | {"n_positions": 4096}).max_model_len == 8192


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feed_forward_proj": "gated-gelu-new"}, "neither an activation nor gated-ACTIVATION"),
        ({"feed_forward_proj": "geglu"}, "'geglu' is not supported"),
        ({"relative_attention_num_buckets": 7}, "must be even"),
        ({"relative_attention_max_distance": 16}, "below twice relative_attention_max_distance"),
        ({"decoder_start_token_id": 100}, "decoder_start_token_id 100 is not in the vocabulary"),
        ({"d_kv": 7}, "head_dim must be even"),
        ({"num_layers": 0, "num_decoder_layers": 2}, "num_layers must be from 1"),
        ({"global_block_size": 16}, "global_block_size is not known for t5"),
    ],
)
def test_what_is_wrong_or_not_known_is_refused_by_name(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        spec_of(**fields)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyT5(CASES["t5"], tmp_path_factory.mktemp("t5") / "model").path


def test_generation_config_says_what_the_decoder_begins_with(model: Path) -> None:
    path = model / "generation_config.json"
    before = path.read_text()
    path.write_text(json.dumps({"decoder_start_token_id": 5, "eos_token_id": [1, 7]}))
    config = load_config(model)
    assert config.encoder is not None and config.encoder.start_token_id == 5
    assert config.eos_token_ids == (1, 7)
    path.write_text(before)


def test_copies_of_the_embedding_are_looked_at(model: Path, tmp_path: Path) -> None:
    """Files have up to three of them; encoder and decoder with others would be another model."""
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    tensors = safetensors.torch.load_file(model / "model.safetensors")
    copy = tensors["shared.weight"].clone()
    same = tensors | {"decoder.embed_tokens.weight": copy, "encoder.embed_tokens.weight": copy + 0}
    safetensors.torch.save_file(same, tmp_path / "model.safetensors")
    assert load_config(tmp_path).tie_word_embeddings
    other = same | {"decoder.embed_tokens.weight": copy + torch.eye(96, 32)}
    safetensors.torch.save_file(other, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"shared.weight and decoder.embed_tokens.weight differ"):
        load_config(tmp_path)
