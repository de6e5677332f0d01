"""Fields of mixtures of experts: what is read, and what is refused in the file's words."""

from typing import Any

import pytest

from backend.config.errors import ModelError
from backend.config.expert_fields import are_sparse, expert_width, read_experts
from backend.config.fields import Fields


def hf(**values: Any) -> Fields:
    return Fields("huggingface", values, {})


def gguf(**values: Any) -> Fields:
    labels = {"num_experts_per_tok": "metadata key qwen3moe.expert_used_count"}
    return Fields("gguf", values, {}, labels)


def test_number_of_choices_has_a_default_in_directories_alone() -> None:
    assert read_experts(hf(num_experts=8), 64, renormalise=True, top_k=4).top_k == 4
    with pytest.raises(ModelError, match=r"qwen3moe\.expert_used_count is missing"):
        read_experts(gguf(num_experts=8), 64, renormalise=True)


@pytest.mark.parametrize("chosen", [0, -1, 9])
def test_more_choices_than_experts_are_refused(chosen: int) -> None:
    fields = hf(num_experts=8, num_experts_per_tok=chosen)
    with pytest.raises(ModelError, match=f"num_experts_per_tok is {chosen}, the model has 8"):
        read_experts(fields, 64, renormalise=True)


def test_no_experts_are_refused() -> None:
    with pytest.raises(ModelError, match="num_experts must be above 0, is 0"):
        read_experts(hf(num_experts=0), 64, renormalise=True)


def test_layers_without_experts() -> None:
    assert are_sparse(hf(), 3) == [True] * 3
    assert are_sparse(hf(decoder_sparse_step=2), 4) == [False, True, False, True]
    assert are_sparse(hf(mlp_only_layers=[0, 2]), 3) == [False, True, False]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"decoder_sparse_step": 0}, "decoder_sparse_step must be above 0, is 0"),
        ({"mlp_only_layers": "0"}, "mlp_only_layers is '0', not a list"),
        ({"mlp_only_layers": [True]}, "mlp_only_layers is .True., not a list"),
    ],
)
def test_layers_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        are_sparse(hf(**values), 2)


def test_width_of_an_expert_of_a_gguf_file() -> None:
    told = gguf(moe_intermediate_size=96, intermediate_size=512, num_experts_per_tok=4)
    assert expert_width(told) == 96
    assert expert_width(gguf(intermediate_size=512, num_experts_per_tok=4)) == 128
