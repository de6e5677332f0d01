"""Special ids that a GGUF file names, and those that llama.cpp gives a kind of vocabulary."""

from typing import Any

import pytest

from backend.config.special_ids import special_ids

MANY = tuple(f"t{i}" for i in range(200))


def ids(kind: str, tokens: tuple[str, ...] = MANY, pre: str = "default", **named: Any) -> Any:
    metadata = {f"tokenizer.ggml.{name}_token_id": value for name, value in named.items()}
    return special_ids(
        {"tokenizer.ggml.model": kind, "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens}
        | metadata
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("llama", {"bos": 1, "eos": 2, "unknown": 0}),
        ("gpt2", {"bos": 11, "eos": 11}),
        ("bert", {"bos": 101, "separator": 102, "unknown": 100, "padding": 0, "mask": 103}),
        ("t5", {"eos": 1, "unknown": 2, "padding": 0}),
        ("gemma4", {}),
    ],
)
def test_kind_of_vocabulary_has_llama_cpps_ids_by_default(
    kind: str, expected: dict[str, int]
) -> None:
    assert ids(kind) == expected


def test_default_that_the_vocabulary_has_no_token_for_is_none() -> None:
    assert ids("gpt2", MANY[:11]) == {}
    assert ids("llama", MANY[:2]) == {"bos": 1, "unknown": 0}


@pytest.mark.parametrize("nothing", [-1, 200, 2**32 - 1, 2**31 - 1, True, "5"])
def test_id_that_no_token_has_says_nothing(nothing: object) -> None:
    assert ids("llama", bos=nothing, eos=7) == {"bos": 1, "eos": 7, "unknown": 0}


def test_glm_prompts_have_no_default_beginning() -> None:
    assert ids("gpt2", pre="glm4") == {"eos": 11}
    assert ids("gpt2", pre="glm4", bos=3) == {"eos": 11, "bos": 3}


def test_bert_begins_with_its_cls_token() -> None:
    """llama.cpp takes 101 there, whatever `cls_token_id` says."""
    assert ids("bert", cls=5)["bos"] == 5
    assert ids("bert", cls=5, bos=6)["bos"] == 6


def test_separator_has_the_formats_own_spelling() -> None:
    assert ids("bert", seperator=9)["separator"] == 9


def test_file_without_a_tokenizer_has_what_it_names() -> None:
    metadata = {"tokenizer.ggml.eos_token_id": 128001, "tokenizer.ggml.bos_token_id": 2**32 - 1}
    assert special_ids(metadata) == {"eos": 128001}
