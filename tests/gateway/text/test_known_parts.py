"""Ids put together from parts that are known are those of the whole text."""

from functools import cache

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.text.known_parts import KnownParts
from gateway.text.tokenizer import Tokenizer
from gateway.text.vocab.gguf import vocabulary_from_metadata
from tests.gateway.data.mixed_scripts import mixed_scripts
from tests.gateway.data.vocabularies import by_kind
from tests.gateway.text.default_tokenizer import smollm

KINDS = ("default", "llama", "t5", "bert")


@cache
def tokenizer(kind: str) -> Tokenizer:
    if kind == "default":
        return smollm()
    return Tokenizer(vocabulary_from_metadata(by_kind(mixed_scripts()[:100])[kind]))


PIECES = (
    "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[SEP]", "<pad>", "<repo_name>", "user", "\n",
    " ", "  ", "Hello", "wörld", "é", "日本", "12", "<", "|>", "<|im_", "a", ".", "\t", "ﬁ",
    "＜/s＞",  # noqa: RUF001
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(TEXTS, TEXTS, st.text(max_size=10))
def test_ids_of_known_parts_are_those_of_the_whole(
    kind: str, first: str, second: str, content: str
) -> None:
    own = tokenizer(kind)
    for text in (first, first + second, first + own.escape(content + second) + first):
        for _ in range(2):
            assert own.encode(text, salt="s") == own.encode(text)


def test_what_was_tokenised_is_not_tokenised_again() -> None:
    """Every turn of an agent tokenised its whole history: 100 ms of 100 KB."""
    own = tokenizer("default")
    history = "".join(f"<|im_start|>user\nWords, {n} words.<|im_end|>\n" for n in range(100))
    own.encode(history, salt="one")
    before = own._known.num_tokenised
    own.encode(history + "<|im_start|>assistant\n", salt="one")
    assert own._known.num_tokenised - before < 100
    own.encode(history, salt="other")
    assert own._known.num_tokenised - before > len(history) / 2


def parts_of(text: str, *tokens: tokenizers.AddedToken) -> tuple[list[str], KnownParts]:
    parts: list[str] = []
    known = KnownParts(tokens, max_bytes=4000)

    def tokenise(part: str) -> list[int]:
        parts.append(part)
        return [1]

    known.ids(text, "", is_escaped=False, tokenise=tokenise)
    return parts, known


def added(text: str, **options: bool) -> tokenizers.AddedToken:
    return tokenizers.AddedToken(text, **{"normalized": False, "special": True, **options})


def test_texts_are_cut_in_front_of_special_tokens_alone() -> None:
    assert parts_of("a<x>b<x><y>c", added("<x>"), added("<y>"))[0] == ["a", "<x>b", "<x>", "<y>c"]
    assert parts_of("a<x>b<x>y>", added("<x>"), added("<x>y>"))[0] == ["a", "<x>b", "<x>y>"]
    assert parts_of("a <x>b", added("<x>", lstrip=True))[0] == ["a <x>b"]
    assert parts_of("a<x>b", added("<x>", normalized=True))[0] == ["a<x>b"]
    assert parts_of("a<y>b", added("<x>", single_word=True), added("<y>"))[0] == ["a<y>b"]
    assert parts_of("a<x>b", added("<x>", special=False))[0] == ["a<x>b"]
    assert parts_of("ab")[0] == ["ab"]


def test_no_more_is_kept_than_there_is_room_for() -> None:
    _, known = parts_of("", added("<x>"))
    for n in range(100):
        known.ids(f"<x>{n}", "", is_escaped=False, tokenise=lambda part: [1])
        assert known._num_bytes <= 4000
    assert 2 < len(known._ids) < 20
    known.ids("<x>" + "a" * 5000, "", is_escaped=False, tokenise=lambda part: [1])
    assert all(len(key[2]) < 10 for key in known._ids)
