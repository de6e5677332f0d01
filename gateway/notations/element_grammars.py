"""Grammars of parameters whose values nest in tags that are named by their keys: see elements.py.

Objects and lists are written so as far as such tags hold their schemas. What they cannot hold is
written in JSON, which the reader takes and whose grammar obeys every keyword. Called by
call_arguments.py.
"""

from collections.abc import Mapping
from typing import Any

from gateway.notations.forms import CompiledForm, ParameterForm, Words
from gateway.notations.lark import LarkWriter
from gateway.notations.parameter_grammars import ParameterGrammar, is_writable_key
from gateway.notations.schema_documents import keywords
from gateway.notations.schema_parts import is_nullable
from gateway.notations.schema_types import resolved, types_of
from gateway.notations.shortfalls import NotCarried
from gateway.notations.spellings import ANY_BARE_KEY
from gateway.notations.value_grammars import properties_of

_HELD = frozenset("type properties required additionalProperties items minItems maxItems".split())
_NESTED = frozenset(("object", "array"))


class ElementGrammar:
    """Writes the parameters of one tool. root: the schema of its arguments."""

    def __init__(self, writer: LarkWriter, form: CompiledForm, root: Mapping[str, Any]) -> None:
        assert form.parameter is not None and form.parameter.after_key is not None
        self._writer = writer
        self._root = root
        self._form: ParameterForm = form.parameter
        self._closing_end = form.parameter.after_key
        self._item_key = form.form.item_key
        self._known: dict[tuple[int, str], str] = {}
        self._schemas: list[Any] = []  # those that are known, so that no other has their identity
        self._any = ""

    def parameter(self, key: str, schema: Any) -> str:
        """Return one element. Raises NotCarried."""
        if not is_writable_key(key, self._form) or self._closing_end.words[0] in key:
            raise NotCarried("", "a parameter of this name cannot be written")
        before = self._writer.literal(f"{self._form.before.text}{key}{self._form.between.text}")
        return f"{before} {self._value(key, schema)}"

    def any_parameters(self) -> str:
        """Return any number of elements, of any names. That a tag is closed by its own name is
        left to the model."""
        if not self._any:
            self._any = self._writer.reserve("element")
            key = self._writer.new(ANY_BARE_KEY, "key")
            before, between, after, end = map(
                self._writer.literal,
                (self._form.before.text, self._form.between.text,
                 self._form.after.text, self._closing_end.text),
            )  # fmt: skip
            text = self._values("").any_text()
            value = f"({text} | {self._any}+ {after})"
            self._writer.add(self._any, f"{before} {key} {between} {value} {key} {end}")
        return f"{self._any}*"

    def may_be_left_out(self, schema: Any) -> bool:
        """Say whether a member of this schema need not be written, though it is required."""
        return is_nullable(types_of(schema, self._root, takes_nullable=False))

    def _values(self, key: str) -> ParameterGrammar:
        """Return what writes values that do not nest."""
        after = self._form.after.text + (f"{key}{self._closing_end.text}" if key else "")
        # A text that begins with a tag would be read as what nests.
        marks = (self._form.before.words[0],)
        form = ParameterForm(self._form.before, self._form.between, Words(after, marks))
        return ParameterGrammar(self._writer, form, self._root)

    def _value(self, key: str, schema: Any) -> str:
        """Return a value and what ends it. Raises NotCarried."""
        if isinstance(schema, dict) and keywords(schema) == {"$ref"}:
            schema = resolved(schema, self._root)
        if not isinstance(schema, dict) or not keywords(schema):
            return self._any_value(key)
        if (id(schema), key) in self._known:
            return self._known[id(schema), key]
        types = types_of(schema, self._root, takes_nullable=False)
        ways = self._nested_ways(schema, types)
        is_plain = not types <= _NESTED or ways != [schema]
        others = [self._values(key).value(schema)] if is_plain else []
        name = self._known[id(schema), key] = self._writer.reserve("value")
        self._schemas.append(schema)
        nested = [f"{self._nested(way, types)} {self._end(key)}" for way in ways]
        return self._writer.add(name, " | ".join([*others, *nested]))

    def _any_value(self, key: str) -> str:
        """Return any value and what ends it."""
        self.any_parameters()
        return f"({self._values(key).value({})} | {self._any}+ {self._end(key)})"

    def _end(self, key: str) -> str:
        return self._writer.literal(f"{self._form.after.text}{key}{self._closing_end.text}")

    # What nests.

    def _nested_ways(self, schema: Mapping[str, Any], types: frozenset[str]) -> list[Any]:
        """Return the schema, or the branches of it, that may be written as what nests: none where
        something else is said, or where the reader would take them for another type."""
        said = keywords(schema)
        ways: list[Any] = [schema]
        for keyword in ("anyOf", "oneOf"):
            if said == {keyword} and isinstance(schema[keyword], list):
                ways = [resolved(branch, self._root) for branch in schema[keyword]]
        return [way for way in ways if self._is_held(way, types)]

    def _is_held(self, schema: Any, types: frozenset[str]) -> bool:
        """Say whether elements hold all that a schema says of a list or an object. types: those
        that the value may have."""
        if not isinstance(schema, dict) or not keywords(schema) <= _HELD:
            return False
        own = types_of(schema, self._root, takes_nullable=False)
        if own - {"null"} == frozenset({"array"}):
            return isinstance(schema.get("items"), dict) and self._is_carried(
                self._item_key, schema["items"]
            )
        properties = properties_of(schema)
        required = schema.get("required") or ()
        if (
            own - {"null"} != frozenset({"object"})
            or not properties
            or set(required) - set(properties)
        ):
            return False
        if isinstance(schema.get("additionalProperties"), dict):
            return False
        if "array" in types and self._item_key in properties:
            return False
        # Without an element it would be read as another type.
        is_told = any(not self.may_be_left_out(properties[key]) for key in required)
        return (is_told or not types & {"string", "array"}) and all(
            self._is_carried(key, each) for key, each in properties.items()
        )

    def _is_carried(self, key: str, schema: Any) -> bool:
        """Say whether an element of a key and a schema can be written."""
        if not is_writable_key(key, self._form) or self._closing_end.words[0] in key:
            return False
        is_mixed = not types_of(schema, self._root, takes_nullable=False) <= _NESTED
        if is_mixed and isinstance(schema, dict) and keywords(schema):
            try:
                self._values(key).value(schema)
            except NotCarried:
                return False
        return True

    def _nested(self, schema: Mapping[str, Any], types: frozenset[str]) -> str:
        """Return the elements of a value. types: those that it may have."""
        if "array" in types_of(schema, self._root, takes_nullable=False):
            return self._items(schema, types)
        required = set(schema.get("required") or ())
        parts = []
        for key, each in properties_of(schema).items():
            if each is False:
                continue
            rule = self._writer.new(self.parameter(key, each), "element")
            is_needed = key in required and not self.may_be_left_out(each)
            parts.append(rule if is_needed else f"{rule}?")
        return " ".join(parts)

    def _items(self, schema: Mapping[str, Any], types: frozenset[str]) -> str:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if "string" in types:
            least = max(least, 1)  # without an item it would be read as a text
        if most == 0:
            return ""
        item = self._writer.new(self.parameter(self._item_key, schema["items"]), "item")
        return f"{item}{{{least},{'' if most is None else most}}}"
