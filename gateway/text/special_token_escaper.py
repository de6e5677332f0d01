"""Keeps names of special tokens that a client spelled from becoming those tokens.

A template's own `<|im_end|>` ends a turn; the same text inside a message must not. Both end up in
one rendering, which has to be tokenised as one text: merges reach across the border between a
template's text and a message's. So every name in client text gets a sentinel inside, before
rendering, and the tokenizer's normalizer, which runs after special tokens were found and before
words are cut, takes the sentinels out again. Knows nothing of messages. Called by
`gateway/text/tokenizer.py`.
"""

import json
import re
import secrets
from collections.abc import Iterable

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from gateway.text.name_pattern import name_pattern

# Unicode promises never to assign these. Neither templates (trim, upper, split) nor JSON
# touch them, and 16 of 32 drawn per process cannot be guessed by a client.
_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
_SENTINEL_LENGTH = 16


class SpecialTokenEscaper:
    """Escapes the names of special tokens in texts. Immutable; used by any thread."""

    def __init__(self, special_texts: Iterable[str]) -> None:
        """special_texts: a name of one character has no inside and stays unescaped."""
        names = {text for text in special_texts if len(text) > 1}
        self.sentinel = "".join(secrets.choice(_NONCHARACTERS) for _ in range(_SENTINEL_LENGTH))
        self._pattern = re.compile(name_pattern(names))
        self._beginnings = {name[:end] for name in names for end in range(1, len(name))}
        self._longest = max(map(len, names), default=0)

    def escape(self, text: str) -> str:
        """Return `text` with a sentinel before the last character of every special token's name.

        In a name that is begun at the very end too: the rest could stand at the start of what a
        template puts after it.
        """
        cuts = set(self._unfinished(text))
        position = 0
        while match := self._pattern.search(text, position):
            position = match.start() + 1  # names may overlap
            # There, since unigram models know `</` but hardly `s>`, and are parted by it.
            cuts.add(match.end() - 1)
        if not cuts:
            return text
        starts, ends = [0, *sorted(cuts)], [*sorted(cuts), len(text)]
        return self.sentinel.join(text[start:end] for start, end in zip(starts, ends, strict=True))

    def unescape(self, text: str) -> str:
        """Return `text` as it was before escape()."""
        return text.replace(self.sentinel, "")

    def backend(self, plain: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        """Return a copy of `plain` that takes sentinels out where they have done their work.

        A unigram model has special tokens among its pieces: there a sentinel parts the text, so
        that no piece reaches over it.
        """
        copy = tokenizers.Tokenizer.from_str(_unnormalized(plain.to_str()))
        if isinstance(plain.model, models.Unigram):
            cut = pre_tokenizers.Split(self.sentinel, "removed")
            cutter: pre_tokenizers.PreTokenizer | None = plain.pre_tokenizer
            copy.pre_tokenizer = cut if cutter is None else pre_tokenizers.Sequence([cutter, cut])
            return copy
        # The stub says property objects; at run time it is a normalizer or None.
        own: normalizers.Normalizer | None = plain.normalizer
        removal = normalizers.Replace(self.sentinel, "")
        copy.normalizer = removal if own is None else normalizers.Sequence([removal, own])
        return copy

    def _unfinished(self, text: str) -> list[int]:
        """Return where sentinels go in names that `text` ends inside of."""
        lengths = range(min(self._longest - 1, len(text)), 0, -1)
        return [len(text) - length + 1 for length in lengths if text[-length:] in self._beginnings]


def _unnormalized(state: str) -> str:
    """Have special tokens found before the normalizer runs: after it the sentinels are gone."""
    tokenizer = json.loads(state)
    late = [t for t in tokenizer["added_tokens"] if t["special"] and t["normalized"]]
    for token in late:
        token["normalized"] = False
    return json.dumps(tokenizer) if late else state
