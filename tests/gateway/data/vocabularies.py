"""Small vocabularies of every kind that GGUF has, made of given texts, the same on every machine.

Owns how pieces are counted and marked. Knows no tokenizer. Used by `make_llama_cpp_ids.py`, and by
the tests that read its output.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Made by SentencePiece (normalization_rule_tsv) of the rules in tests/.../test_charsmap.py.
CHARSMAP = Path(__file__).with_name("characters.charsmap")
_NUM_PIECES = 1500
_MAX_PIECE_LENGTH = 6
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_BYTES = [(f"<0x{byte:02X}>", _BYTE) for byte in range(256)]


def by_kind(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Return the metadata of a vocabulary of each kind, by GGUF's name for the kind."""
    return {
        "llama": bpe_by_score(texts),
        "t5": unigram(texts, CHARSMAP.read_bytes()),
        "bert": word_piece(texts),
    }


def bpe_by_score(texts: Iterable[str]) -> dict[str, Any]:
    """Return a "llama" vocabulary: bytes, and pieces in the order of how common they are."""
    special = [("<unk>", _UNKNOWN), ("<s>", _CONTROL), ("</s>", _CONTROL), ("<|im_end|>", _NORMAL)]
    # llama.cpp joins pieces to `<0x0A>` as well, as SentencePiece never does; none lead there here.
    pieces = _most_common(text.replace(" ", "▁").replace("0x", "") for text in texts)
    return _pairs("llama", [*special, *_BYTES], pieces, [-float(i) for i in range(len(pieces))])


def unigram(texts: Iterable[str], charsmap: bytes) -> dict[str, Any]:
    """Return a "t5" vocabulary, with a map of characters."""
    special = [
        ("<pad>", _CONTROL),
        ("</s>", _CONTROL),
        ("<unk>", _UNKNOWN),
        ("<repo_name>", _USER_DEFINED),
    ]
    pieces = _most_common(" ".join(["", *text.split()]).replace(" ", "▁") for text in texts)
    # No two sums of these are equal, so that there is one best way to cut a text.
    scores = [-3.0 - 0.007 * i - 1e-4 * (i * i % 97) for i in range(len(pieces))]
    return _pairs("t5", special, pieces, scores) | {
        "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.remove_extra_whitespaces": True,
        "tokenizer.ggml.precompiled_charsmap": list(charsmap),
    }


def word_piece(texts: Iterable[str]) -> dict[str, Any]:
    """Return a "bert" vocabulary: pieces that begin a word are marked, the others are not."""
    special = [(text, _CONTROL) for text in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    words = [word for text in texts for word in text.lower().split()]
    begun = [f"▁{piece}" for piece in _most_common(words)]
    pairs = _pairs("bert", special, [*begun, *(piece[1:] for piece in begun)], [])
    ids = {"unknown": 1, "cls": 2, "bos": 2, "seperator": 3, "padding": 0, "mask": 4}
    return pairs | {f"tokenizer.ggml.{name}_token_id": id_ for name, id_ in ids.items()}


def _most_common(texts: Iterable[str]) -> list[str]:
    """Return the most common substrings, every single character first."""
    counts: Counter[str] = Counter()
    for text in texts:
        for length in range(1, _MAX_PIECE_LENGTH + 1):
            counts.update(text[i : i + length] for i in range(len(text) - length + 1))
    # Rare characters are left out, so that there are unknown ones.
    kept = [text for text, count in counts.items() if count > 2 and "\0" not in text]
    kept.sort(key=lambda text: (len(text) > 1, -counts[text], text))
    return kept[:_NUM_PIECES]


def _pairs(
    kind: str, special: list[tuple[str, int]], pieces: list[str], scores: list[float]
) -> dict[str, Any]:
    texts, types = zip(*special, strict=True)
    known = set(texts)
    kept = [i for i, piece in enumerate(pieces) if piece not in known]
    pairs: dict[str, Any] = {
        "tokenizer.ggml.model": kind,
        "tokenizer.ggml.tokens": [*texts, *(pieces[i] for i in kept)],
        "tokenizer.ggml.token_type": [*types, *[_NORMAL] * len(kept)],
    }
    if scores:
        pairs["tokenizer.ggml.scores"] = [0.0] * len(texts) + [scores[i] for i in kept]
    return pairs
