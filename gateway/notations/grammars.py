"""Grammars that hold an answer to calls of tools, in the notation of the model.

Owns the difference between calls that are demanded and calls that are held from where they begin.
Knows no requests. Called by answers/held_calls.py.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from backend.wire.sampling import Grammar
from gateway.notations.forms import CompiledForm, Slot
from gateway.notations.lark import LarkWriter
from gateway.notations.messages_grammar import messages_grammar
from gateway.notations.schema_types import types_of
from gateway.notations.served import ServedNotation
from gateway.notations.value_grammars import (
    MarkedSpelling,
    PythonSpelling,
    ValueGrammar,
)

Functions = Sequence[tuple[str, Mapping[str, Any]]]
_DEFINITIONS = ("$defs", "definitions")


def calls_grammar(
    notation: ServedNotation,
    functions: Functions,
    *,
    allows_parallel: bool,
    body: Grammar | None = None,
) -> Grammar:
    """Return the grammar of an answer that consists of calls of these functions.

    functions: names, and JSON schemas of their arguments. body: what the answer may be instead.
    """
    if notation.form.messages is not None:
        return messages_grammar(notation, functions, body=body, is_required=body is None)
    writer = LarkWriter(notation.special_ids)
    writer.add("start", "calls" if body is None else "calls | body")
    form = notation.form.forms[0]
    writer.add("calls", f"{writer.literal(form.section_open.text)} calls_of_section".strip())
    _add_calls(writer, form, functions, allows_parallel=allows_parallel)
    return _grammar(writer, body)


def held_calls_grammar(
    notation: ServedNotation, functions: Functions, *, allows_parallel: bool
) -> Grammar:
    """Return the grammar of any answer whose calls, from where they begin, are of these functions.

    Where nothing marks calls, an answer that begins as one is one.
    """
    if notation.form.messages is not None:
        return messages_grammar(notation, functions, body=None, is_required=False)
    writer = LarkWriter(notation.special_ids)
    writer.add("start", "")
    form = notation.form.forms[0]
    if form.form.is_unmarked:
        text = writer.new(r"/[^{\[\s](.|\n)*/", "other")
        writer.add("start", f"calls | {text}")
        writer.add("calls", f"{writer.literal(form.section_open.text)} calls_of_section".strip())
        _add_calls(writer, form, functions, allows_parallel=allows_parallel)
        return _grammar(writer, None)
    # The mark alone says that a call begins; what follows it is held.
    mark = form.opening_words[0]
    repeats = "*" if allows_parallel else "?"
    writer.add("start", f"held{repeats} {writer.any_text()}")
    if form.section_open.words:
        after = writer.literal(form.section_open.text.removeprefix(mark))
        writer.add("held", f"{writer.until(mark)} {after} calls_of_section")
        _add_calls(writer, form, functions, allows_parallel=allows_parallel)
    else:
        writer.add("held", f"{writer.until(mark)} call")
        _add_calls(writer, form, functions, allows_parallel=False, mark=mark)
    return _grammar(writer, None)


def _grammar(writer: LarkWriter, body: Grammar | None) -> Grammar:
    return Grammar("lark", writer.text(), body, tuple(sorted(writer.used_ids)))


def _add_calls(
    writer: LarkWriter,
    form: CompiledForm,
    functions: Functions,
    *,
    allows_parallel: bool,
    mark: str = "",
) -> None:
    """Add the rules of the calls of a section. mark: what has been written of a call already."""
    calls = [
        writer.add(f"call_{number}", _call(writer, form, name, schema, mark))
        for number, (name, schema) in enumerate(functions)
    ]
    writer.add("call", " | ".join(calls))
    separator = writer.literal(form.form.separator)
    more = f"({separator} call)*" if allows_parallel else ""
    closing = writer.literal(form.section_close.text)
    writer.add("calls_of_section", f"call {more} {closing}".strip())


def _call(
    writer: LarkWriter, form: CompiledForm, name: str, schema: Mapping[str, Any], mark: str
) -> str:
    head = "".join(name if isinstance(part, Slot) else part.text for part in form.head)
    head, tail = head.removeprefix(mark), form.tail.text
    schema = {"type": "object", **schema}
    match form.content:
        case "object":
            keys = form.form.name_key, form.form.arguments_key
            # In words as JSON has them: an answer that is no call may be JSON, too.
            parts = ["{", f'"{keys[0]}"', ":", " ", json.dumps(name), ",", " ", f'"{keys[1]}"', ":"]
            before = " ".join(map(writer.literal, filter(None, [head, *parts, " "])))
            after = writer.literal("}" + tail)
            return f"{before} {writer.json(schema)} {after}"
        case "parameters":
            body = _parameters(writer, form, schema)
        case "keywords":
            grammar = ValueGrammar(writer, PythonSpelling(), schema)
            properties = schema.get("properties") or {}
            body = grammar.members(schema, {key: json.dumps(f"{key}=") for key in properties})
        case _ if form.form.string_mark:
            body = _marked(writer, form, schema)
        case _:
            body = writer.json(schema)
    return f"{writer.literal(head)} {body} {writer.literal(tail)}".strip()


def _marked(writer: LarkWriter, form: CompiledForm, schema: Mapping[str, Any]) -> str:
    spelling = MarkedSpelling(form.form.string_mark, has_bare_keys=form.form.bare_keys)
    grammar = ValueGrammar(writer, spelling, schema)
    properties = schema.get("properties") or {}
    keys = {key: f'{spelling.key(writer, key)} ":"' for key in properties}
    members = grammar.members(schema, keys)
    return f'{json.dumps("{")} {members} "}}"'


def _parameters(writer: LarkWriter, form: CompiledForm, schema: Mapping[str, Any]) -> str:
    assert form.parameter is not None
    properties = schema.get("properties") or {}
    required = set(schema.get("required") or ())
    definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
    parts = []
    for key, value in properties.items():
        before = f"{form.parameter.before.text}{key}{form.parameter.between.text}"
        after = form.parameter.after.text
        part = f"{writer.literal(before)} {_parameter(writer, value, schema, definitions, after)}"
        rule = writer.new(part, "parameter")
        parts.append(rule if key in required else f"{rule}?")
    return " ".join(parts) or '""'


def _parameter(
    writer: LarkWriter,
    value: Any,
    root: Mapping[str, Any],
    definitions: Mapping[str, Any],
    after: str,
) -> str:
    """Return a parameter's value and what ends it: strings stand bare."""
    enum = value.get("enum") if isinstance(value, dict) else None
    if isinstance(enum, list) and enum and all(isinstance(text, str) for text in enum):
        return f"({' | '.join(map(writer.literal, enum))}) {writer.literal(after)}"
    if "string" in types_of(value, root):
        return writer.until(after)
    return f"{writer.json({**value, **definitions})} {writer.literal(after)}"
