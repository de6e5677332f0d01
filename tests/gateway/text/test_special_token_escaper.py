"""Names of special tokens in client text stay text, wherever that text ends up."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from gateway.text.special_token_escaper import SpecialTokenEscaper
from gateway.text.tokenizer import Tokenizer
from tests.gateway.text.default_tokenizer import smollm

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
PIECES = st.sampled_from([IM_START, IM_END, "<|im_", "end|>", "<", "|>", "user", "\n", " a", "é"])


def special_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    ids = tokenizer.encode(text, add_special_tokens=False)
    return [
        i for i in ids if tokenizer.decode([i]) != tokenizer.decode([i], skip_special_tokens=False)
    ]


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join))
def test_escaped_text_has_the_ids_of_its_characters(text: str) -> None:
    protected = smollm().encode(smollm().escape(text))
    assert protected == smollm().encode(text, parse_special=False)


@settings(deadline=None)
@given(st.lists(st.lists(PIECES, max_size=6).map("".join), max_size=4))
def test_escaped_texts_in_a_row_never_join_into_a_special_token(texts: list[str]) -> None:
    joined = "".join(map(smollm().escape, texts))
    assert special_ids(smollm(), joined) == []
    assert special_ids(smollm(), IM_START + joined + IM_END) == [1, 2]


@pytest.mark.parametrize("text", ["", "plain", "a < b", "2 > 1 |", "é 日本 🙂"])
def test_ordinary_text_is_not_changed(text: str) -> None:
    assert smollm().escape(text) is text


def test_name_that_a_template_would_complete_is_escaped() -> None:
    assert special_ids(smollm(), smollm().escape("a <|im_") + "end|>") == []


def test_sentinels_differ_by_process_and_survive_templates() -> None:
    one, other = SpecialTokenEscaper(["<a>"]), SpecialTokenEscaper(["<a>"])
    assert one.sentinel != other.sentinel
    assert one.sentinel.strip().upper() == one.sentinel


def test_overlapping_names_are_both_broken() -> None:
    escaper = SpecialTokenEscaper(["<a", "a>"])
    assert escaper.escape("x<a>y").replace(escaper.sentinel, "|") == "x<|a|>y"


def test_special_tokens_sought_after_normalizing_are_escaped_too() -> None:
    vocab = {"<s>": 0, "<": 1, "s": 2, ">": 3, "A": 4, "a": 5}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.Fuse()
    backend.add_tokens([AddedToken("<s>", special=True, normalized=True)])
    escaper = SpecialTokenEscaper(["<s>"])
    encoding = escaper.backend(backend).encode(escaper.escape("A<s>") + "<s>")
    assert encoding.ids == [5, 1, 2, 3, 0]
