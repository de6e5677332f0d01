"""Turns the token ids of one choice into text as they arrive.

Owns what is held back: bytes of a character that is not complete yet. A delta never holds half a
character, and U+FFFD only where the model really left one broken. Knows no stop strings and no
responses. Made by `Tokenizer.detokenizer`, used by `gateway/answers/generation.py`.
"""

import codecs
from collections.abc import Sequence
from typing import Protocol

import tokenizers

from gateway.text.vocab.pieces import Piece

_REPLACEMENT = "\ufffd"
# A character has at most 4 bytes: after 3 complete ones nothing before them can be unfinished.
_MAX_UNFINISHED_BYTES = 3
# A decoder without a table may hold back so many: 4 bytes, each a token, and a neighbour.
_MAX_HELD_TOKENS = 6


class Detokenizer(Protocol):
    """The text of one choice, piece by piece. Not for use by several threads at once.

    All deltas and the flush together are the one-shot decode of the ids.
    """

    def push(self, token_id: int) -> str:
        """Return the text that is certain now; "" while a character is split over tokens."""
        ...

    def flush(self) -> str:
        """Return what is left at the end: U+FFFD for a character that stayed unfinished."""
        ...


class PieceDetokenizer:
    """Decodes with a table of pieces (`gateway/text/vocab/pieces.py`), in 0.1 us a token."""

    def __init__(self, pieces: list[Piece], prompt_ids: Sequence[int], *, strips_space: bool):
        self._pieces = pieces
        self._num_pieces = len(pieces)
        self._unfinished = self._unfinished_prompt(prompt_ids)
        self._strips_space = strips_space and not any(map(self._piece, prompt_ids))
        self._is_plain = not self._unfinished and not self._strips_space

    def push(self, token_id: int) -> str:
        piece = self._pieces[token_id] if 0 <= token_id < self._num_pieces else ""
        if self._is_plain and type(piece) is str:
            return piece
        return self._decode(piece if isinstance(piece, bytes) else piece.encode(), final=False)

    def flush(self) -> str:
        return self._decode(b"", final=True)

    def _decode(self, data: bytes, *, final: bool) -> str:
        data = self._unfinished + data
        text, num_consumed = codecs.utf_8_decode(data, "replace", final)
        self._unfinished = data[num_consumed:]
        if self._strips_space and text:
            self._strips_space = False
            text = text.removeprefix(" ")
        self._is_plain = not self._unfinished and not self._strips_space
        return text

    def _piece(self, token_id: int) -> Piece:
        return self._pieces[token_id] if 0 <= token_id < self._num_pieces else ""

    def _unfinished_prompt(self, prompt_ids: Sequence[int]) -> bytes:
        """Return the bytes of a character that the prompt began and its continuation may end."""
        tail = b""
        for token_id in reversed(prompt_ids):
            piece = self._piece(token_id)
            tail = (piece if isinstance(piece, bytes) else piece.encode()) + tail
            if len(tail) >= _MAX_UNFINISHED_BYTES:
                break
        _, num_consumed = codecs.utf_8_decode(tail, "replace", False)
        return tail[num_consumed:]


class WindowDetokenizer:
    """Decodes a short window of ids again with every token, where there is no such table.

    The window reaches back one delta further than what is new, so that a decoder that treats the
    beginning of a text specially does so only once. A U+FFFD that is meant cannot be told from half
    a character here: it waits for what follows, and a long run of them comes out as it looks.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, prompt_ids: Sequence[int], *, skip_special_tokens: bool
    ):
        self._backend = backend
        self._skip_special_tokens = skip_special_tokens
        self._ids = list(prompt_ids[-_MAX_HELD_TOKENS:])
        self._num_seen = len(self._ids)
        self._seen = self._text(self._ids)

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._text(self._ids)
        num_held = len(self._ids) - self._num_seen
        is_split = text.endswith(_REPLACEMENT) and num_held <= _MAX_HELD_TOKENS
        return "" if is_split or len(text) <= len(self._seen) else self._advance(text)

    def flush(self) -> str:
        return self._advance(self._text(self._ids))

    def _advance(self, text: str) -> str:
        delta = text[len(self._seen) :]
        self._ids = self._ids[self._num_seen :]
        self._num_seen = len(self._ids)
        self._seen = self._text(self._ids)
        return delta

    def _text(self, ids: list[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=self._skip_special_tokens)
