"""The bound is never above the number of tokens, and close enough to it to be of use."""

from collections.abc import Callable
from functools import cache

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models, normalizers, pre_tokenizers

from gateway.text.vocab.bound import TextBound, text_bound
from gateway.text.vocab.gguf import vocabulary_from_metadata
from tests.gateway.gguf_files import sentencepiece_pairs
from tests.gateway.text.default_tokenizer import smollm

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
# Lost or not, of one to four bytes, composed by NFC or not, and what merges are made of.
CHARACTERS = "\x04\x06a b\n\té\u0301\u0313\u0342ω\u0345日😀\U000cffff#-_<|im_end|>"


def byte_level(normalizer: normalizers.Normalizer | None = None) -> tokenizers.Tokenizer:
    vocab = {text: i for i, text in enumerate([*ALPHABET, "aa", "aaaa"])}
    backend = tokenizers.Tokenizer(models.BPE(vocab, [("a", "a"), ("aa", "aa")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer is not None:
        backend.normalizer = normalizer
    return backend


def sentencepiece() -> tokenizers.Tokenizer:
    pairs = sentencepiece_pairs({"▁": -1.0, "▁▁": -2.0, "▁▁▁▁": -3.0, "he": -4.0})
    return vocabulary_from_metadata(pairs).backend


def default() -> tokenizers.Tokenizer:
    return smollm()._backend


BOUNDED: list[Callable[[], tokenizers.Tokenizer]] = [
    default,
    sentencepiece,
    byte_level,
    lambda: byte_level(normalizers.NFC()),
]


@cache
def bounded(backend: Callable[[], tokenizers.Tokenizer]) -> tuple[tokenizers.Tokenizer, TextBound]:
    own = backend()
    bound = text_bound(own)
    assert bound is not None
    return own, bound


@pytest.mark.parametrize("backend", BOUNDED)
@settings(deadline=None)
@given(text=st.text(st.sampled_from(CHARACTERS) | st.characters(codec="utf-8"), max_size=200))
def test_no_text_has_fewer_tokens_than_its_bound(
    backend: Callable[[], tokenizers.Tokenizer], text: str
) -> None:
    own, bound = bounded(backend)
    assert bound.min_num_tokens(text) <= len(own.encode(text, add_special_tokens=False))


def test_bound_is_that_of_the_longest_token() -> None:
    assert text_bound(byte_level()) == TextBound(4)
    assert TextBound(4).min_num_tokens("a" * 17) == 5
    assert text_bound(byte_level(normalizers.NFC())) == TextBound(16)


def test_characters_that_the_default_model_drops_do_not_count() -> None:
    bound = text_bound(default())
    assert bound is not None and "\x04" in bound.lost
    assert bound.min_num_tokens("\x04" * 10_000) == len(default().encode("\x04" * 10_000)) == 0


def stripping() -> tokenizers.Tokenizer:
    backend = byte_level()
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return backend


def cutting_blanks_out() -> tokenizers.Tokenizer:
    backend = byte_level()
    blanks = pre_tokenizers.WhitespaceSplit()
    backend.pre_tokenizer = pre_tokenizers.Sequence([blanks, backend.pre_tokenizer])
    return backend


def words() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))


@pytest.mark.parametrize(
    "backend",
    [
        stripping,
        cutting_blanks_out,
        words,
        lambda: byte_level(normalizers.Strip()),
        lambda: byte_level(normalizers.Replace("aa", "a")),
        lambda: byte_level(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
    ],
)
def test_what_may_swallow_any_number_of_characters_has_no_bound(
    backend: Callable[[], tokenizers.Tokenizer],
) -> None:
    assert text_bound(backend()) is None
