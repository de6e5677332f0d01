"""Grammars of parameters that are written one by one, strings bare: see parameters.py.

A bare text is read as what the schema allows, so a grammar must know what it will be read as.
Called by grammars.py.
"""

import json
from collections.abc import Mapping
from typing import Any

from gateway.notations.forms import ParameterForm
from gateway.notations.lark import LarkWriter, without
from gateway.notations.schema_documents import document, keywords
from gateway.notations.schema_types import resolved, types_of, value_of
from gateway.notations.shortfalls import NotCarried, joined
from gateway.notations.spellings import ANY_BARE_KEY
from gateway.notations.text_grammars import ANY_TEXT, text_terminal

_SPACE = r"[\s\x1c-\x1f]*"
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
# What a bare text is read as, if a schema allows it: see value_of(). Lists and objects are known by
# their first character here.
_READ_AS = {
    "null": f"/{_SPACE}(?:null|None){_SPACE}/",
    "boolean": f"/{_SPACE}(?i:true|false){_SPACE}/",
    "number": f"/{_SPACE}{_NUMBER}{_SPACE}/",
    "array": rf"/{_SPACE}\[(?s:.*)/",
    "object": rf"/{_SPACE}\{{(?s:.*)/",
}
_WRITTEN = {"null": '"null"', "boolean": '("true" | "false")', "number": f"/{_NUMBER}/"}
_NUMERIC = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split())


class ParameterGrammar:
    """Writes the parameters of one tool. root: the schema of its arguments."""

    def __init__(self, writer: LarkWriter, form: ParameterForm, root: Mapping[str, Any]) -> None:
        self._writer = writer
        self._form = form
        self._root = root
        self._mark = form.after.words[0]

    def parameter(self, key: str, schema: Any) -> str:
        """Return one parameter. Raises NotCarried."""
        if not is_writable_key(key, self._form):
            raise NotCarried("", "a parameter of this name cannot be written")
        before = self._writer.literal(f"{self._form.before.text}{key}{self._form.between.text}")
        return f"{before} {self._marked(schema) if self._form.kind else self.value(schema)}"

    def any_parameters(self) -> str:
        """Return any number of parameters, of any names."""
        before, between = (
            self._writer.literal(words.text) for words in (self._form.before, self._form.between)
        )
        key = self._writer.new(ANY_BARE_KEY, "key")
        value = self._marked({}) if self._form.kind else self.value({})
        return f"({self._writer.new(f'{before} {key} {between} {value}', 'extra')})*"

    def may_be_left_out(self, schema: Any) -> bool:
        """Say whether a parameter of this schema need not be written, though it is required."""
        return False

    def any_text(self) -> str:
        """Return any text and what ends it."""
        return self._text(ANY_TEXT)

    def _marked(self, schema: Any) -> str:
        """Return a value, and before it what it is."""
        types = types_of(schema, self._root, takes_nullable=False)
        ways = []
        if "string" in types and (text := text_terminal(schema, self._root)):
            ways.append(f"{self._kind('string')} {self._text(text)}")
        others = sorted(types - {"string", "integer"} if "number" in types else types - {"string"})
        groups = [others] if self._form.kind == "string" and others else [[name] for name in others]
        after = self._writer.literal(self._form.after.text)
        for names in groups:
            own = {"type": names if len(names) > 1 else names[0]}
            narrowed = (
                {"allOf": [schema, own]} if isinstance(schema, dict) and keywords(schema) else own
            )
            kind = "number" if names == ["integer"] else names[0]
            ways.append(f"{self._kind(kind)} {self._json(narrowed)} {after}")
        if not ways:
            raise NotCarried("", "no value obeys it")
        return f"({' | '.join(ways)})"

    def _kind(self, name: str) -> str:
        """Return the words that say of what type a value is."""
        shown = name
        if self._form.kind == "string":
            shown = "true" if name == "string" else "false"
        return self._writer.literal(f"{shown}{self._form.before_value.text}")

    def value(self, schema: Any) -> str:
        """Return a value and what ends it. Raises NotCarried."""
        schema = resolved(schema, self._root) if _is_reference(schema) else schema
        types = types_of(schema, self._root, takes_nullable=False)
        if not isinstance(schema, dict) or not keywords(schema):
            return self._text(ANY_TEXT)
        if isinstance(values := schema.get("enum"), list) and keywords(schema) <= {"enum", "type"}:
            return self._literals(values, schema)
        if "string" not in types:
            return f"{self._json(schema)} {self._writer.literal(self._form.after.text)}"
        read_as = types_of(schema, self._root)
        text = text_terminal(schema, self._root)
        if text and read_as == frozenset({"string"}):
            return self._text(text)
        return self._mixed(schema, text, types, read_as)

    def _mixed(
        self, schema: dict[str, Any], text: str, types: frozenset[str], read_as: frozenset[str]
    ) -> str:
        """Return a string or something else. read_as: the types that a text may be read as.

        The reader takes a text for a string last.
        """
        if text == ANY_TEXT and keywords(schema) == {"type"}:
            return self._text(ANY_TEXT)  # whatever it is read as will do
        known = {"number" if name == "integer" else name for name in read_as} - {"string"}
        ways = []
        if text:
            ways.append(" & ".join([text, *(f"~{_READ_AS[name]}" for name in sorted(known))]))
        others = types - {"string"}
        if not text and not others:
            raise NotCarried("", "no string obeys it")
        self._check_numbers(schema, others)
        for name in sorted(known & set(_WRITTEN)):
            if name in others:
                ways.append(_WRITTEN[name])
            elif name == "number" and "integer" in others:
                ways.append("/-?(0|[1-9][0-9]*)/")
        bare = self._text(" | ".join(f"({way})" for way in ways))
        if not others & {"array", "object"}:
            return bare
        nested = {"type": sorted(others & {"array", "object"})}
        value = self._json({"allOf": [schema, nested]})
        return f"({bare} | {value} {self._writer.literal(self._form.after.text)})"

    def _check_numbers(self, schema: Any, types: frozenset[str]) -> None:
        """Raise NotCarried for what a lexeme of numbers, true and false does not hold."""
        if not isinstance(schema, dict):
            return
        said = keywords(schema)
        for keyword in sorted(said):
            if keyword in _NUMERIC and types & {"number", "integer"}:
                raise NotCarried(keyword, "beside strings, which stand bare, numbers have no limit")
            if keyword in ("enum", "const") and types - {"string", "null"}:
                raise NotCarried(keyword, "strings stand bare beside other values")
            if keyword in ("anyOf", "oneOf", "allOf") and isinstance(schema[keyword], list):
                for number, each in enumerate(schema[keyword]):
                    try:
                        self._check_part(each, types)
                    except NotCarried as fault:
                        path = joined(f"{keyword}[{number}]", fault.path)
                        raise NotCarried(path, str(fault)) from None

    def _check_part(self, schema: Any, types: frozenset[str]) -> None:
        for _ in range(2):
            schema = resolved(schema, self._root)
        own = types_of(schema, self._root, takes_nullable=False) & types
        if own & {"number", "integer", "boolean"} and isinstance(schema, dict):
            if any(name in schema for name in ("anyOf", "oneOf", "allOf")):
                raise NotCarried("", "it nests beside strings, which stand bare")
            self._check_numbers(schema, own)

    def _literals(self, values: list[Any], schema: Any) -> str:
        """Return some values. Raises NotCarried for one that is read as another."""
        read_as = types_of(schema, self._root)
        texts = []
        for number, value in enumerate(values):
            if not types_of({"const": value}, {}) & types_of(schema, {}, takes_nullable=False):
                continue
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            if self._mark in text or not _is_same(_read(text, read_as), value):
                raise NotCarried(f"enum[{number}]", "as it is written it means another value")
            texts.append(text)
        after = self._writer.literal(self._form.after.text)
        ways = [self._writer.literal(text) or json.dumps("") for text in texts]
        return f"({' | '.join(ways)}) {after}"

    def _text(self, terminal: str) -> str:
        """Return a bare text and what ends it."""
        return self._writer.text_before(
            without(f"({terminal})", [self._mark]), self._form.after.text
        )

    def _json(self, schema: Any) -> str:
        return self._writer.json(document(schema, self._root))


def is_writable_key(key: str, form: ParameterForm) -> bool:
    """Say whether a parameter may have this name."""
    return bool(key) and key == key.strip() and form.between.words[0] not in key


def _is_reference(schema: Any) -> bool:
    return isinstance(schema, dict) and keywords(schema) == {"$ref"}


def _read(text: str, types: frozenset[str]) -> Any:
    return text if types == frozenset({"string"}) else json.loads(value_of(text, types))


def _is_same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
