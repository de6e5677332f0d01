"""Remembers the ids of parts of texts, so that a conversation is tokenised once and not every turn.

A tokenizer looks for added tokens first and then cuts what stands between them, each piece by
itself: so a text is cut in front of special tokens, and the ids of the parts, one after the other,
are those of the whole. Owns which of them are such borders, and how much is kept. Must not
know how a part is tokenised; it is told. Used by tokenizer.py, from any thread.
"""

import re
import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import tokenizers

from gateway.text.name_pattern import name_pattern

# Some 100 conversations of 100 KB: a character takes a byte, a token four.
MAX_BYTES = 32 * 2**20
# What an entry takes beside its text and its ids.
_ENTRY_BYTES = 300

Key = tuple[str, bool, str]


class KnownParts:
    """The ids of parts, the last used ones. num_tokenised: characters that were not known."""

    def __init__(
        self, added_tokens: Iterable[tokenizers.AddedToken], max_bytes: int = MAX_BYTES
    ) -> None:
        """added_tokens: of the tokenizer."""
        self.num_tokenised = 0
        self._max_bytes = max_bytes
        # Others are looked for in what the normalizer leaves, between these.
        early = [token for token in added_tokens if not token.normalized]
        # A token that counts as a word of its own only depends on what stands before it.
        is_usable = not any(token.single_word for token in early)
        self._early = re.compile(name_pattern(t.content for t in early) if is_usable else "(?!)")
        # A token that takes the white space before it belongs to the part before.
        # Others than special ones, as Gemma's line breaks and tags, may be everywhere.
        self._borders = frozenset(t.content for t in early if t.special and not t.lstrip)
        self._ids: OrderedDict[Key, array[int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def ids(
        self, text: str, salt: str, *, is_escaped: bool, tokenise: Callable[[str], list[int]]
    ) -> list[int]:
        """Return the ids of a text.

        salt: texts under others know nothing of this one. is_escaped: how it is tokenised, which
        may differ. tokenise: returns the ids of a part.
        """
        ids: list[int] = []
        for part in self._parts(text):
            key = salt, is_escaped, part
            with self._lock:
                known = self._ids.get(key)
                if known is not None:
                    self._ids.move_to_end(key)
            if known is None:
                known = array("i", tokenise(part))
                self._keep(key, known)
            ids.extend(known)
        return ids

    def _parts(self, text: str) -> Iterator[str]:
        """Yield the parts of a text; each but the first begins with a special token."""
        start = 0
        for found in self._early.finditer(text):
            if found.start() > start and found[0] in self._borders:
                yield text[start : found.start()]
                start = found.start()
        yield text[start:]

    def _keep(self, key: Key, ids: "array[int]") -> None:
        size = _size(key, ids)
        with self._lock:
            self.num_tokenised += len(key[2])
            if size > self._max_bytes // 4 or key in self._ids:
                return
            self._ids[key] = ids
            self._num_bytes += size
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= _size(*self._ids.popitem(last=False))


def _size(key: Key, ids: "array[int]") -> int:
    return _ENTRY_BYTES + sum(map(sys.getsizeof, key)) + sys.getsizeof(ids)
