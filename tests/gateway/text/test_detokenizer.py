"""No delta holds half a character, and all of them together are the one-shot decode."""

import itertools
from collections.abc import Callable
from functools import cache

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from gateway.text.detokenizer import PieceDetokenizer, WindowDetokenizer
from gateway.text.tokenizer import Tokenizer
from gateway.text.vocab.gguf import vocabulary_from_metadata
from gateway.text.vocab.pieces import Piece
from gateway.text.vocab.vocabulary import Vocabulary
from tests.gateway.characters import REPRESENTABLE
from tests.gateway.gguf_files import sentencepiece_pairs
from tests.gateway.text.default_tokenizer import smollm

BROKEN = "\ufffd"
HARD_CHARACTERS = ("é e\u0301 中 हिन्दी ภาษา 😀 👍🏽 👩‍👩‍👧‍👦 🇫🇷 ❤️ \U0010ffff " + BROKEN).split()
TEXTS = st.lists(st.sampled_from(HARD_CHARACTERS) | st.text(REPRESENTABLE, max_size=8)).map("".join)


@cache
def sentencepiece() -> Tokenizer:
    """A vocabulary that spells most of its text in byte tokens."""
    pieces = ["he", "▁t", "▁the", "中", "▁▁", "▁", *"hetaio"]
    pairs = sentencepiece_pairs({text: -float(i) for i, text in enumerate(pieces)})
    return Tokenizer(vocabulary_from_metadata(pairs))


@cache
def without_table() -> Tokenizer:
    """A decoder that no table describes: bytes fall back, but spaces have no mark."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256, "a": 257}
    model = models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer_of(backend)


def tokenizer_of(backend: tokenizers.Tokenizer) -> Tokenizer:
    return Tokenizer(Vocabulary(backend, None, None, (), prefix_ids=(), suffix_ids=()))


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer(skip_special_tokens=False)
    return [*map(detokenizer.push, ids), detokenizer.flush()]


every_kind = pytest.mark.parametrize("load", [smollm, sentencepiece, without_table])


@every_kind
@settings(deadline=None)
@given(text=TEXTS)
def test_deltas_and_flush_are_the_one_shot_decode(load: Callable[[], Tokenizer], text: str) -> None:
    # What the kind cannot express: the space mark as itself; a U+FFFD that is meant.
    if load is sentencepiece:
        text = text.replace("▁", "")
    if load is without_table:
        text = text.replace(BROKEN, "")
    ids = load().encode(text, add_special_tokens=False, parse_special=False)
    deltas = streamed(load(), ids)
    assert "".join(deltas) == load().decode(ids, skip_special_tokens=False) == text
    assert BROKEN in text or not any(BROKEN in delta for delta in deltas)


@settings(deadline=None)
@given(st.data())
def test_deltas_of_any_ids_are_the_decode_of_their_bytes(data: st.DataObject) -> None:
    pieces: list[Piece] = data.draw(st.lists(st.binary(max_size=5) | st.text(max_size=3)))
    detokenizer = PieceDetokenizer(pieces, (), strips_space=False)
    text = "".join([*map(detokenizer.push, range(len(pieces))), detokenizer.flush()])
    joined = b"".join(p if isinstance(p, bytes) else p.encode() for p in pieces)
    assert text == joined.decode(errors="replace")


@settings(deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 400)))
def test_each_delta_is_all_that_is_certain_whatever_the_split(text: str, cuts: list[int]) -> None:
    data = text.encode()
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces: list[Piece] = [data[low:high] for low, high in itertools.pairwise(bounds)]
    detokenizer = PieceDetokenizer(pieces, (), strips_space=False)
    so_far = ""
    for index, end in enumerate(bounds[1:]):
        so_far += detokenizer.push(index)
        assert so_far == data[:end].decode(errors="ignore")
    assert detokenizer.flush() == ""


@pytest.mark.parametrize("character", HARD_CHARACTERS)
def test_character_in_single_byte_tokens_comes_out_whole(character: str) -> None:
    ids = [3 + byte for byte in character.encode()]
    assert [delta for delta in streamed(sentencepiece(), ids) if delta] == list(character)
    ids = list(character.encode())
    # Without a table, a real U+FFFD looks like half a character until what follows is known.
    assert "".join(streamed(without_table(), ids)) == character


@every_kind
def test_character_left_unfinished_is_broken_only_in_the_flush(
    load: Callable[[], Tokenizer],
) -> None:
    ids = load().encode("a😀", add_special_tokens=False)[:-1]
    deltas = streamed(load(), ids)
    assert "".join(deltas[:-1]) == "a"
    assert set(deltas[-1]) == {BROKEN}


def test_continuation_keeps_the_space_that_a_beginning_lacks() -> None:
    ids = sentencepiece().encode("the", add_special_tokens=False)
    assert sentencepiece().decode(ids) == "the"
    bos = [1]
    assert sentencepiece().detokenizer(bos).push(ids[0]) == "the"
    assert sentencepiece().detokenizer([*bos, *ids]).push(ids[0]) == " the"


def test_continuation_ends_the_character_that_the_prompt_began() -> None:
    *prompt_ids, last = smollm().encode("Hello 😀")
    detokenizer = smollm().detokenizer(prompt_ids)
    assert detokenizer.push(last) + detokenizer.flush() == "😀"


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, 49151)), num_prompt=st.integers(0, 20))
def test_continuation_is_the_end_of_the_whole_text(ids: list[int], num_prompt: int) -> None:
    detokenizer = smollm().detokenizer(ids[:num_prompt])
    continuation = "".join([*map(detokenizer.push, ids[num_prompt:]), detokenizer.flush()])
    assert smollm().decode(ids).endswith(continuation)


def test_special_tokens_are_shown_only_when_asked_for() -> None:
    im_end = 2
    assert smollm().detokenizer().push(im_end) == ""
    assert smollm().detokenizer(skip_special_tokens=False).push(im_end) == "<|im_end|>"


def test_decoder_that_joins_words_gets_its_spaces_right() -> None:
    vocab = {"[UNK]": 0, "play": 1, "##ing": 2, "ground": 3}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    tokenizer = tokenizer_of(backend)
    assert streamed(tokenizer, [1, 2, 3]) == ["play", "ing", " ground", ""]
    assert tokenizer.detokenizer([1, 2]).push(3) == " ground"


def test_window_without_a_table_stays_short_on_broken_bytes() -> None:
    """Bytes that never form a character must not make every later token slower."""
    continuation_byte = 0x80
    detokenizer = without_table().detokenizer()
    assert isinstance(detokenizer, WindowDetokenizer)
    deltas = [detokenizer.push(continuation_byte) for _ in range(100)]
    assert sum(map(len, deltas)) >= 90


def test_some_special_tokens_may_be_shown_alone() -> None:
    im_start, im_end = 1, 2
    detokenizer = smollm().detokenizer(shown_ids=frozenset({im_end}))
    assert (detokenizer.push(im_start), detokenizer.push(im_end)) == ("", "<|im_end|>")
