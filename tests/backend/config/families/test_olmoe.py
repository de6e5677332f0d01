"""OLMoE's fields."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.families import olmoe
from backend.config.fields import Fields, FileKind
from backend.config.spec import DecoderSpec, Experts

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_experts": 8,
    "num_experts_per_tok": 4,
    "rms_norm_eps": 1e-5,
}


def spec(kind: FileKind = "huggingface", **values: Any) -> DecoderSpec:
    fields = Fields(kind, SIZES | values, {})
    result = olmoe.FAMILY.spec(fields)
    assert isinstance(result, DecoderSpec)
    assert not set(fields.left()) - {"num_attention_heads", "hidden_size"}
    return result


def test_all_heads_are_normalised_as_one_vector() -> None:
    assert spec().layers[0].attends.qk_norm == "all"


def test_weights_are_renormalised_if_a_directory_says_so() -> None:
    for found, renormalise in (
        (spec(), False),
        (spec(norm_topk_prob=True), True),
        (spec("gguf"), False),
    ):
        assert found.layers[0].mlp == Experts(8, 4, 32, renormalise=renormalise)


def test_what_cuts_off_queries_and_keys_is_refused() -> None:
    with pytest.raises(ModelError, match=r"clip_qkv is 8\.0: queries, keys and values"):
        spec(clip_qkv=8.0)
