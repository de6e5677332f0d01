"""How notations that are not JSON spell values: Gemma's marks and Python's literals.

Both may be written with JSON in them, which their readers take: json() says how. Used by who writes
grammars of values.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Protocol

from gateway.notations.lark import LarkWriter, without
from gateway.notations.schema_documents import keywords
from gateway.notations.shortfalls import NotCarried
from gateway.notations.text_grammars import text_terminal

_BARE_KEY = re.compile(r"[^\W\d][\w.-]*")
ANY_BARE_KEY = "/[A-Za-z_][A-Za-z0-9_.-]*/"
TEXTUAL = frozenset(("minLength", "maxLength", "pattern", "format"))


class Spelling(Protocol):
    """How a notation spells values.

    constants: null, true and false. comma, colon: between members. sorts_keys: members come in
    alphabetic order.
    """

    constants: tuple[str, str, str]
    comma: str
    colon: str
    sorts_keys: bool

    def text(self, writer: LarkWriter, schema: Any, root: Mapping[str, Any]) -> str:
        """Return any string that a schema allows. Raises NotCarried."""

    def literal(self, writer: LarkWriter, text: str) -> str:
        """Return one string. Raises NotCarried."""

    def key(self, writer: LarkWriter, name: str) -> str:
        """Return the name of a member. Raises NotCarried."""

    def any_key(self, writer: LarkWriter) -> str:
        """Return the name of any member."""

    def json(self, writer: LarkWriter, schema: Mapping[str, Any]) -> str:
        """Return a value in JSON as who reads the notation takes it."""


class MarkedSpelling:
    """Strings between marks, bare keys: see marked_json.py."""

    constants = ("null", "true", "false")
    comma, colon = ",", ":"

    def __init__(self, mark: str, *, has_bare_keys: bool) -> None:
        self._mark = mark
        self.sorts_keys = has_bare_keys

    def text(self, writer: LarkWriter, schema: Any, root: Mapping[str, Any]) -> str:
        if not (terminal := text_terminal(schema, root)):
            raise NotCarried("", "no string obeys it")
        terminal = without(terminal, [self._mark])
        return f"{writer.literal(self._mark)} {writer.text_before(terminal, self._mark)}"

    def literal(self, writer: LarkWriter, text: str) -> str:
        if self._mark in text:
            raise NotCarried("", "a string has the mark in it that ends one")
        return writer.literal(f"{self._mark}{text}{self._mark}")

    def key(self, writer: LarkWriter, name: str) -> str:
        if not self.sorts_keys:
            return self.literal(writer, name)
        if not is_bare_key(name):
            raise NotCarried(f"properties.{name}", "its name cannot stand bare")
        return writer.literal(name)

    def any_key(self, writer: LarkWriter) -> str:
        bare = f"{writer.new(ANY_BARE_KEY, 'key')} | " if self.sorts_keys else ""
        return f"({bare}{self.text(writer, {}, {})})"

    def json(self, writer: LarkWriter, schema: Mapping[str, Any]) -> str:
        return writer.json(schema)


class PythonSpelling:
    """Values as Python writes them: see keywords.py."""

    constants = ("None", "True", "False")
    comma, colon = ", ", ": "
    sorts_keys = False

    def text(self, writer: LarkWriter, schema: Any, root: Mapping[str, Any]) -> str:
        if not isinstance(schema, dict) or not keywords(schema) & TEXTUAL:
            string = r"""/'([^'\\\n]|\\[^\n])*'|"([^"\\\n]|\\[^\n])*"/"""
            return writer.new(string, "text")
        asked = {key: schema[key] for key in keywords(schema) & TEXTUAL}
        return self.json(writer, {"type": "string", **asked})

    def literal(self, writer: LarkWriter, text: str) -> str:
        spellings = dict.fromkeys((repr(text), json.dumps(text, ensure_ascii=False)))
        return f"({' | '.join(map(writer.literal, spellings))})"

    def key(self, writer: LarkWriter, name: str) -> str:
        return self.literal(writer, name)

    def any_key(self, writer: LarkWriter) -> str:
        return self.text(writer, {}, {})

    def json(self, writer: LarkWriter, schema: Mapping[str, Any]) -> str:
        # Strings of JSON are Python's, too, as long as no character takes two escapes.
        return writer.json(schema, escapes='nrbtf\\"')


def is_bare_key(name: str) -> bool:
    """Say whether the name of a member may stand without quotation marks."""
    return _BARE_KEY.fullmatch(name) is not None
