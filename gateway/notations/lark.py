"""Lark's notation of grammars, as llguidance reads it, put together rule by rule.

Owns how literal text with special tokens in it is written, and text up to a mark. Called by who
writes grammars of calls.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What may stand between two parts of JSON, as templates show it. Models that may write any amount
# of white space sometimes write nothing else.
_WHITESPACE = " "
_META = re.compile(r"([\\/.+*?()|\[\]{}^$#&~-])")


class LarkWriter:
    """The rules of one grammar. special_ids: texts of special tokens, and their ids."""

    def __init__(self, special_ids: Mapping[str, int]) -> None:
        self.used_ids: set[int] = set()
        self._special_ids = special_ids
        texts = sorted(special_ids, key=len, reverse=True)
        self._special = re.compile(f"({'|'.join(map(re.escape, texts)) or '(?!)'})")
        self._rules: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}

    def add(self, name: str, body: str) -> str:
        """Add a rule, return its name."""
        self._rules[name] = body
        return name

    def new(self, body: str, prefix: str = "rule", options: str = "") -> str:
        """Return the name of a rule that is not there yet, or of one that says the same."""
        if (body, options) not in self._names:
            name = self._names[body, options] = self.reserve(prefix)
            self._rules[name] = body
            if options:
                self._rules[f"{name}[{options}]"] = self._rules.pop(name)
        return self._names[body, options]

    def reserve(self, prefix: str = "rule") -> str:
        """Return a name whose rule is added later: it may lead to itself."""
        name = f"{prefix}_{len(self._rules)}"
        self._rules[name] = '""'
        return name

    def text(self) -> str:
        """Return the whole grammar."""
        return "".join(f"{name}: {body}\n" for name, body in self._rules.items())

    def literal(self, text: str) -> str:
        """Return literal text, its special tokens by id; nothing for no text."""
        parts = [part for part in self._special.split(text) if part]
        return " ".join(self._token(part) or quoted(part) for part in parts)

    def any_text(self, excluded: Sequence[str] = ()) -> str:
        """Return any text, which may be empty and has no special token, nor any of those."""
        self._rules["TEXT"] = without(r"/(.|\n)+/", excluded)
        return "TEXT?"

    def until(self, text: str, excluded: Sequence[str] = ()) -> str:
        """Return any text that ends with the first `text`, which may begin with a special token."""
        first, *others = [part for part in self._special.split(text) if part]
        rest = self.literal("".join(others))
        if token := self._token(first):
            return f"{self.any_text(excluded)} {token} {rest}".strip()
        lexeme = self.terminal(without(rf"/(.|\n)*{regex_of(first)}/", excluded))
        return f"{self.new(lexeme, 'until', 'lazy')} {rest}".strip()

    def has_token(self, text: str) -> bool:
        """Say whether a literal text has special tokens in it."""
        return self._special.search(text) is not None

    def text_before(self, terminal: str, text: str) -> str:
        """Return a text that an expression of a terminal matches, and `text` behind it.

        The expression must not match what has the first word of `text` in it.
        """
        first, *others = [part for part in self._special.split(text) if part]
        rest = self.literal("".join(others))
        if token := self._token(first):
            return f"{self.terminal(terminal)} {token} {rest}".strip()
        return f"{self.terminal(f'({terminal}) {quoted(first)}')} {rest}".strip()

    def terminal(self, body: str) -> str:
        """Return the name of a terminal."""
        if (body, "terminal") not in self._names:
            name = self._names[body, "terminal"] = f"TEXT_{len(self._rules)}"
            self._rules[name] = body
        return self._names[body, "terminal"]

    def json(self, schema: Mapping[str, Any], *, escapes: str = "") -> str:
        """Return JSON that obeys a schema. escapes: the letters of those that strings may have."""
        # Each schema is a document of its own, or its references would lead nowhere.
        own = {"x-guidance": {"whitespace_pattern": _WHITESPACE}, **schema}
        if escapes:
            own["x-guidance"] = {**own["x-guidance"], "json_allowed_escapes": escapes}
        return self.new(f"%json {json.dumps(own)}", "json")

    def _token(self, text: str) -> str:
        token_id = self._special_ids.get(text)
        if token_id is None:
            return ""
        self.used_ids.add(token_id)
        return f"<[{token_id}]>"


def without(terminal: str, texts: Sequence[str]) -> str:
    """Return an expression of a terminal that matches the same but what has some texts in it."""
    return " & ".join([terminal, *(f"~/(?s:.*){regex_of(text)}(?s:.*)/" for text in texts)])


def regex_of(text: str) -> str:
    """Return a regular expression of literal text, as it stands between slashes."""
    return _META.sub(r"\\\1", text).replace("\n", r"\n")


def quoted(text: str) -> str:
    """Return literal text without special tokens in it."""
    # The notation has JSON's strings, but without a raw delete character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
