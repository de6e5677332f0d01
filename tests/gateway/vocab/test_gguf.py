"""GGUF files of both kinds, and files that cannot be used."""

import re
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers.pre_tokenizers import ByteLevel

from gateway.tokenizer import Tokenizer, TokenizerError
from gateway.vocab.gguf_metadata import read_metadata
from gateway.vocab.pretokenizers import PRE_TOKENIZERS
from tests.gateway.gguf_files import sentencepiece_pairs, write_gguf

UNK, BOS, EOS = 0, 1, 2
HELLO = ["he", "▁t", "ll", "▁the", "hell", "hello", "▁hello", "▁▁", "▁", *"helot"]


def load(path: Path, pairs: dict[str, Any]) -> Tokenizer:
    return Tokenizer.load(write_gguf(path / "model.gguf", pairs))


def hello_pairs() -> dict[str, Any]:
    """Pieces that are joined in the order of HELLO."""
    return sentencepiece_pairs({text: -float(rank) for rank, text in enumerate(HELLO)})


def byte_level_pairs(**changes: Any) -> dict[str, Any]:
    """The 256 letters of the byte alphabet, "ab", a control and a user-defined token."""
    letters = sorted(ByteLevel.alphabet())
    pairs = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [*letters, "ab", "<|end|>", "<think>"],
        "token_type": [1] * 257 + [3, 4],
        "merges": ["a b"],
        "bos_token_id": 257,
        "eos_token_id": 257,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (pairs | changes).items()}


def spelled(tokenizer: Tokenizer, text: str, **options: bool) -> list[str]:
    """Return the tokens of a text without those around it, each as text."""
    ids = tokenizer.encode(text, add_special_tokens=False, **options)
    return [tokenizer.decode([0, i], skip_special_tokens=False)[len("<unk>") :] for i in ids]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("hello", [" hello"]),
        ("the", [" the"]),
        (" the", [" ", " the"]),
        ("hell the", [" ", "hell", " the"]),
        ("lo\n", [" ", "l", "o", "\n"]),
        ("", []),
        # A special token ends a word: the next one begins with a space again.
        ("the</s>hello", [" the", "</s>", " hello"]),
    ],
)
def test_sentencepiece_joins_pieces_by_score(tmp_path: Path, text: str, tokens: list[str]) -> None:
    assert spelled(load(tmp_path, hello_pairs()), text) == tokens


def test_the_better_score_wins_over_order_and_length(tmp_path: Path) -> None:
    pairs = sentencepiece_pairs({"ab": -5.0, "bc": -1.0, "a": 0.0, "b": 0.0, "c": 0.0})
    tokenizer = load(tmp_path, pairs | {"tokenizer.ggml.add_space_prefix": False})
    assert spelled(tokenizer, "abcab") == ["a", "bc", "ab"]


def test_characters_without_a_piece_become_bytes(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, hello_pairs() | {"tokenizer.ggml.add_space_prefix": False})
    assert tokenizer.encode("é", add_special_tokens=False) == [3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode([3 + 0xC3, 3 + 0xA9]) == "é"


def test_text_never_spells_a_control_token_by_itself(tmp_path: Path) -> None:
    pairs = sentencepiece_pairs({"<s": -1.0, "<": -2.0, "s": -3.0, ">": -4.0})
    tokenizer = load(tmp_path, pairs)
    assert BOS in tokenizer.encode("<s>", add_special_tokens=False)
    assert BOS not in tokenizer.encode("<s>", add_special_tokens=False, parse_special=False)


def test_sentencepiece_prompts_begin_with_bos_unless_the_file_says_no(tmp_path: Path) -> None:
    assert load(tmp_path, hello_pairs()).encode("")[0] == BOS
    without = hello_pairs() | {"tokenizer.ggml.add_bos_token": False}
    assert load(tmp_path, without).encode("") == []
    with_eos = hello_pairs() | {"tokenizer.ggml.add_eos_token": True}
    assert load(tmp_path, with_eos).encode("") == [BOS, EOS]


def test_byte_level_prompts_begin_with_bos_where_the_family_does(tmp_path: Path) -> None:
    assert load(tmp_path, byte_level_pairs()).encode("ab") == [256]
    assert load(tmp_path, byte_level_pairs(pre="llama-bpe")).encode("ab") == [257, 256]
    told = byte_level_pairs(pre="llama-bpe", add_bos_token=False)
    assert load(tmp_path, told).encode("ab") == [256]


def test_user_defined_tokens_are_text_and_control_tokens_are_not(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, byte_level_pairs())
    ids = tokenizer.encode("<think><|end|>")
    assert ids == [258, 257]
    assert tokenizer.decode(ids) == "<think>"
    assert tokenizer.encode("<think>", parse_special=False) == [258]


def test_ends_are_the_named_ids_and_well_known_control_tokens(tmp_path: Path) -> None:
    pairs = hello_pairs() | {"tokenizer.ggml.eot_token_id": 300, "tokenizer.ggml.eom_token_id": 270}
    # 300 is outside of the vocabulary; "</s>" is found by its text.
    del pairs["tokenizer.ggml.eos_token_id"]
    assert load(tmp_path, pairs).eos_token_ids == (270, EOS)


def test_a_name_without_a_pre_tokenizer_is_an_error_that_lists_those_known(tmp_path: Path) -> None:
    with pytest.raises(
        TokenizerError, match=r"model\.gguf.*'quux' is not known.*llama-bpe"
    ) as info:
        load(tmp_path, byte_level_pairs(pre="quux"))
    assert all(name in str(info.value) for name in PRE_TOKENIZERS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "bert"}, "'bert'; supported: 'gpt2', 'llama'"),
        ({"merges": ["ab"]}, "merge 'ab' does not name two tokens"),
        ({"merges": ["a zz"]}, "its merges do not fit its tokens"),
        ({"token_type": [1, 1]}, "259 tokens but 2 token types"),
        ({"tokens": ["a", "b", "a"]}, "1 of its tokens are spelled like another one"),
        ({"model": "llama"}, "259 tokens but 0 scores"),
        ({"tokens": 5}, "Expected `array`, got `int`"),
    ],
)
def test_metadata_that_does_not_fit_is_named(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(TokenizerError, match=re.escape(words)) as info:
        load(tmp_path, byte_level_pairs(**changes))
    assert "model.gguf" in str(info.value)
    assert "\n" not in str(info.value)


def test_a_file_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"model\.gguf has no tokenizer"):
        load(tmp_path, {})


def test_metadata_equals_what_the_gguf_package_reads(tmp_path: Path) -> None:
    pairs = hello_pairs() | {"a.yes": True, "a.float": 0.5, "a.negative": -7, "a.text": "é\n"}
    path = write_gguf(tmp_path / "model.gguf", pairs)
    fields = gguf.GGUFReader(path).fields.items()
    expected = {key: field.contents() for key, field in fields if not key.startswith("GGUF.")}
    assert read_metadata(path) == expected
    assert pairs.items() <= read_metadata(path).items()


def test_a_file_cut_anywhere_is_an_error_and_nothing_worse(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", hello_pairs())
    whole = path.read_bytes()
    # The end of the file is padding of the last array: cut before that.
    for size in range(0, len(whole) - 32, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(TokenizerError, match=r"model\.gguf is not a usable GGUF file"):
            read_metadata(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"PK\3\4" + bytes(20), "does not begin with the letters GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63), "ends inside a string"),
        (b"GGUF" + struct.pack("<IQQQIIQ", 3, 0, 1, 0, 9, 4, 2**62), "ends inside an array"),
        (b"GGUF" + struct.pack("<IQQQIIQ", 3, 0, 1, 0, 9, 9, 1), "unknown type 9"),
        (b"GGUF" + struct.pack("<IQQQI", 3, 0, 1, 0, 77), "unknown type 77"),
    ],
)
def test_a_bad_header_is_refused_in_words(tmp_path: Path, header: bytes, words: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header)
    with pytest.raises(TokenizerError, match=words):
        read_metadata(path)
