"""BERT's vocabulary in a GGUF file. `test_huggingface` compares it with transformers' tokenizer."""

from functools import cache
from typing import Any

import pytest

from gateway.text.tokenizer import Tokenizer, TokenizerError
from gateway.text.vocab.gguf import vocabulary_from_metadata
from tests.gateway.data import vocabularies
from tests.gateway.data.mixed_scripts import mixed_scripts

UNK, CLS, SEP = 1, 2, 3


@cache
def pairs() -> dict[str, Any]:
    return vocabularies.word_piece(mixed_scripts())


def bert(**changes: Any) -> Tokenizer:
    own = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return Tokenizer(vocabulary_from_metadata(pairs() | own))


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    tokens = pairs()["tokenizer.ggml.tokens"]
    return [tokens[i] for i in tokenizer.encode(text, add_special_tokens=False)]


def test_text_stands_between_cls_and_sep() -> None:
    ids = bert().encode("the fox")
    assert (ids[0], ids[-1]) == (CLS, SEP)
    # As in llama.cpp, whatever the file says of BOS and EOS.
    assert bert(add_bos_token=False, add_eos_token=False).encode("the fox") == ids
    assert bert().encode("") == [CLS, SEP]


def test_words_begin_with_a_mark_and_go_on_without() -> None:
    assert spelled(bert(), "The  they") == ["▁the", "▁the", "y"]


def test_text_that_is_cut_keeps_its_special_tokens() -> None:
    whole = bert().encode("the fox")
    assert bert().encode("the fox", max_length=4) == [*whole[:3], SEP]
    assert bert().encode("the fox", max_length=99) == whole
    assert bert().encode("the fox", max_length=2) == [CLS, SEP]
    assert bert().encode("the", add_special_tokens=False, max_length=0) == []
    with pytest.raises(TokenizerError, match="1 tokens are too few: a text has 2 special tokens"):
        bert().encode("the", max_length=1)


def test_pair_has_two_segments() -> None:
    tokenizer = bert(token_type_count=2)
    first, second = (tokenizer.encode(text, add_special_tokens=False) for text in ("the", "a fox"))
    pair = tokenizer.encode_pair("the", "a fox")
    assert pair.ids == [CLS, *first, SEP, *second, SEP]
    assert pair.type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    # One type of token in the model: all are of it.
    assert set(bert(token_type_count=1).encode_pair("the", "fox").type_ids) == {0}


def test_text_may_spell_a_special_token_in_characters() -> None:
    assert bert().encode("[SEP]") == [CLS, SEP, SEP]
    assert SEP not in bert().encode("[SEP]", parse_special=False)[1:-1]
    assert bert().encode_pair("[SEP]", "x").ids.count(SEP) == 2


@pytest.mark.parametrize(
    ("changes", "text", "tokens"),
    [
        ({}, "CAFÉ", ["▁ca", "f", "e"]),
        ({"normalizer.lowercase": False}, "café", ["▁ca", "f", "é"]),
        ({"normalizer.lowercase": False, "normalizer.strip_accents": True}, "é", ["▁e"]),
        ({"normalizer.strip_accents": False}, "CAFÉ", ["▁ca", "f", "é"]),
    ],
)
def test_file_says_what_becomes_of_case_and_accents(
    changes: dict[str, Any], text: str, tokens: list[str]
) -> None:
    assert spelled(bert(**changes), text) == tokens


def test_word_of_over_100_characters_is_unknown() -> None:
    assert bert().encode("a" * 100)[1] != UNK
    assert bert().encode("a" * 101) == [CLS, UNK, SEP]


def test_vocabulary_without_an_unknown_token_is_refused() -> None:
    few = {"tokens": ["[CLS]", "[SEP]", "▁a"], "token_type": [3, 3, 1], "unknown_token_id": 7}
    with pytest.raises(ValueError, match="names no unknown token, which WordPiece needs"):
        bert(**few)
