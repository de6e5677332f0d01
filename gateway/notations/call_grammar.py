"""The grammar of one call, in the notation of the model.

Called by grammars.py, and by messages_grammar.py where messages have calls in them.
"""

import json
from collections.abc import Mapping
from typing import Any

from gateway.notations.call_arguments import ArgumentsGrammar
from gateway.notations.forms import CompiledForm, Words
from gateway.notations.lark import LarkWriter
from gateway.notations.shortfalls import Shortfall

# Slots that say nothing to us, as a demanded call has them.
_SLOTS = {"index": "/[0-9]{1,4}/", "ignored": "/[a-z0-9]{10}/"}


def call_of(
    writer: LarkWriter,
    form: CompiledForm,
    name: str,
    schema: Mapping[str, Any],
    *,
    shortfalls: list[Shortfall],
    mark: str = "",
) -> str:
    """Return what a call of a function may be; its rules go to the writer.

    schema: of its arguments. shortfalls: what of that is not held is added. mark: what has been
    written of the call.
    """
    head, tail = _head(writer, form, name, mark), form.tail.text
    schema = {"type": "object", **schema}
    if form.content == "object":
        keys = form.form.name_key, form.form.arguments_key
        # In words as JSON has them: an answer that is no call may be JSON, too.
        parts = ["{", f'"{keys[0]}"', ":", " ", json.dumps(name), ",", " ", f'"{keys[1]}"', ":"]
        before = " ".join([head, *map(writer.literal, [*parts, " "])])
        return f"{before} {writer.json(schema)} {writer.literal('}' + tail)}"
    arguments = ArgumentsGrammar(writer, form, name, schema, shortfalls)
    return f"{head} {arguments.written()} {writer.literal(tail)}".strip()


def _head(writer: LarkWriter, form: CompiledForm, name: str, mark: str) -> str:
    """Return what precedes the arguments. mark: what has been written of it."""
    parts = []
    text = ""  # literal parts that follow each other are one: a mark may be made of several
    for part in form.head:
        if isinstance(part, Words):
            text += part.text
        elif part.kind == "name":
            text += name
        else:
            parts.append(writer.literal(text.removeprefix(mark)))
            parts.append(writer.new(_SLOTS[part.kind], part.kind))
            mark = text = ""
    parts.append(writer.literal(text.removeprefix(mark)))
    return " ".join(filter(None, parts))
