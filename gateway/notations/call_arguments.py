"""Grammars of the arguments of a call, in the notation of the model.

Owns what becomes of a keyword that the notation cannot carry: it is listed, and the rest is held.
Called by grammars.py.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from gateway.notations.element_grammars import ElementGrammar
from gateway.notations.forms import CompiledForm
from gateway.notations.lark import LarkWriter
from gateway.notations.parameter_grammars import ParameterGrammar
from gateway.notations.schema_documents import keywords
from gateway.notations.shortfalls import NotCarried, Shortfall, joined
from gateway.notations.spellings import (
    ANY_BARE_KEY,
    MarkedSpelling,
    PythonSpelling,
    is_bare_key,
)
from gateway.notations.value_grammars import ValueGrammar, properties_of

_Parameters = ParameterGrammar | ElementGrammar
_PLAIN = frozenset(("type", "properties", "required", "additionalProperties"))
_ONE_BY_ONE = "it cannot be held where arguments are written one by one"


class ArgumentsGrammar:
    """Writes the arguments of one function."""

    def __init__(
        self,
        writer: LarkWriter,
        form: CompiledForm,
        name: str,
        schema: Mapping[str, Any],
        shortfalls: list[Shortfall],
    ) -> None:
        """schema: of all arguments. shortfalls: what is not held is added to them."""
        self._writer = writer
        self._form = form
        self._name = name
        self._schema = schema
        self._shortfalls = shortfalls

    def written(self) -> str:
        """Return the arguments as the form has them."""
        match self._form.content:
            case "parameters":
                return self._parameters()
            case "keywords":
                return self._keywords()
            case _ if self._form.form.string_mark:
                return self._marked()
        return self._writer.json(self._schema)

    def _marked(self) -> str:
        form = self._form.form
        spelling = MarkedSpelling(form.string_mark, has_bare_keys=form.bare_keys)
        return ValueGrammar(self._writer, spelling, self._schema).object(self._schema)

    def _keywords(self) -> str:
        self._check_whole()
        grammar = ValueGrammar(self._writer, PythonSpelling(), self._schema)
        keys = {}
        for key in self._properties():
            if is_bare_key(key):
                keys[key] = json.dumps(f"{key}=")
            else:
                self._leave_out(f"properties.{key}", "an argument of this name cannot be written")
        if not keys and self._is_open:
            key = self._writer.new(ANY_BARE_KEY, "key")
            pair = self._writer.new(f'{key} "=" {grammar.anything()}', "pair")
            return f'({pair} (", " {pair})*)?'
        return grammar.members({**self._schema, "properties": self._properties()}, keys)

    def _parameters(self) -> str:
        assert self._form.parameter is not None
        self._check_whole()
        grammar: _Parameters
        if self._form.parameter.after_key is None:
            grammar = ParameterGrammar(self._writer, self._form.parameter, self._schema)
        else:
            grammar = ElementGrammar(self._writer, self._form, self._schema)
        properties = self._properties()
        if not properties and self._is_open:
            return grammar.any_parameters()
        required = set(self._schema.get("required") or ())
        parts = []
        for key, schema in properties.items():
            if schema is False:
                continue
            part = self._parameter(grammar, key, schema)
            if part:
                rule = self._writer.new(part, "parameter")
                is_needed = key in required and not grammar.may_be_left_out(schema)
                parts.append(rule if is_needed else f"{rule}?")
        return " ".join(parts) or '""'

    def _parameter(self, grammar: _Parameters, key: str, schema: Any) -> str:
        ways: tuple[Callable[[], Any], ...] = (
            lambda: schema,
            lambda: {"type": schema["type"]} if "type" in schema else {},
            lambda: {},
        )
        for way in ways:
            try:
                return grammar.parameter(key, way())
            except NotCarried as fault:
                self._leave_out(joined(f"properties.{key}", fault.path), str(fault))
                self._leave_out(f"properties.{key}", "not all of it is held")
        return ""

    def _check_whole(self) -> None:
        """List what the schema says of all arguments together and no parameter can hold."""
        num_required = len(self._schema.get("required") or ())
        for keyword in sorted(keywords(self._schema) - _PLAIN):
            value = self._schema[keyword]
            if keyword == "minProperties" and value <= num_required:
                continue
            if keyword == "maxProperties" and value >= len(self._properties()):
                continue
            self._leave_out(keyword, _ONE_BY_ONE)

    def _properties(self) -> dict[str, Any]:
        """Return all members that may be written: also those that are only required."""
        properties = dict(properties_of(self._schema))
        others = self._schema.get("additionalProperties", True)
        for name in self._schema.get("required") or ():
            properties.setdefault(name, others)
        return properties

    @property
    def _is_open(self) -> bool:
        """Whether arguments of any name and value may be written."""
        return self._schema.get("additionalProperties", True) in (True, {})

    def _leave_out(self, path: str, reason: str) -> None:
        found = Shortfall(self._name, path, reason)
        if found not in self._shortfalls:
            self._shortfalls.append(found)
