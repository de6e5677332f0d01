"""How many tokens a text has at least: a bound that costs no tokenising.

There is one only where all characters but a known few end up in some token: in byte-level BPE, and
in BPE that falls back to bytes. Whatever may drop other characters, or put any number of them into
one token, has none. Made by `gateway/text/tokenizer.py`, once a model.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import tokenizers
from tokenizers import models, pre_tokenizers

# At most so many characters of a text become one: Unicode's longest canonical decomposition has
# four. Normalizers that are not here may drop characters.
_SHRINKING = {
    "ByteLevel": 1,
    "Lowercase": 1,
    "NFC": 4,
    "NFD": 1,
    "NFKC": 4,
    "NFKD": 1,
    "Prepend": 1,
}
# These cut a text, or replace a character by one.
_KEEPING = {"ByteLevel", "Digits", "Metaspace"}
_BYTE_TOKENS = {f"<0x{byte:02X}>" for byte in range(256)}


@dataclass(frozen=True, slots=True)
class TextBound:
    """max_chars: of a text, that one token stands for. lost: characters that become no token."""

    max_chars: int
    lost: tuple[str, ...] = ()

    def min_num_tokens(self, text: str) -> int:
        """Return how many tokens `text` has at least."""
        num_chars = len(text) - sum(map(text.count, self.lost))
        return -(-num_chars // self.max_chars)


def text_bound(backend: tokenizers.Tokenizer) -> TextBound | None:
    """Return the bound of a tokenizer, None if it has none."""
    normalizers, cutters = _steps(backend.normalizer), _steps(backend.pre_tokenizer)
    added = backend.get_added_tokens_decoder().values()
    if not all(map(_is_keeping, cutters)) or any(token.lstrip or token.rstrip for token in added):
        return None
    shrinking = 1
    for normalizer in normalizers:
        factor = _shrinking(normalizer)
        if factor is None:
            return None
        shrinking *= factor
    vocab = backend.get_vocab(with_added_tokens=True)
    is_byte_level = any(step["type"] == "ByteLevel" for step in [*normalizers, *cutters])
    lost = _lost(backend.model, vocab, is_byte_level=is_byte_level)
    if lost is None or (lost and normalizers):  # which might turn others into those
        return None
    return TextBound(shrinking * max(map(len, vocab)), lost)


def _steps(part: Any) -> list[dict[str, Any]]:
    """Return the steps of a normalizer or pre-tokenizer as tokenizer.json writes them."""
    # The pickled state of these objects is that JSON; nothing else shows it.
    return [] if part is None else _flat(msgspec.json.decode(part.__getstate__()))


def _flat(state: dict[str, Any]) -> list[dict[str, Any]]:
    if state["type"] != "Sequence":
        return [state]
    parts = state.get("normalizers") or state.get("pretokenizers") or []
    return [step for part in parts for step in _flat(part)]


def _shrinking(normalizer: dict[str, Any]) -> int | None:
    if normalizer["type"] != "Replace":
        return _SHRINKING.get(normalizer["type"])
    pattern = normalizer["pattern"].get("String")
    return 1 if pattern and len(normalizer["content"]) >= len(pattern) else None


def _is_keeping(cutter: dict[str, Any]) -> bool:
    if cutter["type"] in ("Split", "Punctuation"):
        return bool(cutter["behavior"] != "Removed")
    return cutter["type"] in _KEEPING


def _lost(model: Any, vocab: dict[str, int], *, is_byte_level: bool) -> tuple[str, ...] | None:
    """Return the characters that no token has a part of; None if that may be more than ASCII."""
    if not isinstance(model, models.BPE):
        return None
    if not is_byte_level:
        return () if model.byte_fallback and vocab.keys() >= _BYTE_TOKENS else None
    # Vocabularies leave out bytes that their training text had not, control characters mostly.
    ascii_letters = _letters("".join(map(chr, range(128))))
    # U+0080 to U+00BF have all the bytes in them that continue a character, and one that begins it.
    if not vocab.keys() >= set(_letters("".join(map(chr, range(0x80, 0xC0))))):
        return None
    return tuple(chr(code) for code, letter in enumerate(ascii_letters) if letter not in vocab)


def _letters(text: str) -> str:
    """Return the bytes of a text as byte-level vocabularies write them, a letter each."""
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(piece for piece, _ in cut.pre_tokenize_str(text))
