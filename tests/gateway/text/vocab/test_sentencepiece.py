"""SentencePiece's BPE in a GGUF file: pieces are joined by score."""

from pathlib import Path
from typing import Any

import pytest

from gateway.text.tokenizer import Tokenizer, TokenizerError
from tests.gateway.gguf_files import hello_pairs, sentencepiece_pairs, write_gguf

BOS = 1


def load(path: Path, pairs: dict[str, Any]) -> Tokenizer:
    return Tokenizer.load(write_gguf(path / "model.gguf", pairs))


def spelled(tokenizer: Tokenizer, text: str, **options: Any) -> list[str]:
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


def test_better_score_wins_over_order_and_length(tmp_path: Path) -> None:
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


def test_missing_scores_are_named_and_left_over_ones_are_not(tmp_path: Path) -> None:
    pairs = hello_pairs()
    pairs["tokenizer.ggml.scores"] += [0.0, 0.0]
    assert spelled(load(tmp_path, pairs), "hello") == [" hello"]
    del pairs["tokenizer.ggml.scores"][-3:]
    with pytest.raises(TokenizerError, match="273 tokens but 272 scores"):
        load(tmp_path, pairs)
