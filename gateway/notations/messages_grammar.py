"""Grammars of answers that consist of messages, as gpt-oss writes them (Harmony).

The whole answer is described, thoughts included: what a message is decides what may follow. Called
by grammars.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from backend.wire.sampling import Grammar
from gateway.notations.call_grammar import call_of
from gateway.notations.lark import LarkWriter
from gateway.notations.served import ServedNotation
from gateway.notations.shortfalls import Shortfall


def messages_grammar(
    notation: ServedNotation,
    functions: Sequence[tuple[str, Mapping[str, Any]]] | None,
    *,
    body: Grammar | None = None,
    is_required: bool = False,
    max_thought_tokens: int | None = None,
    shortfalls: list[Shortfall] | None = None,
) -> Grammar:
    """Return the grammar of an answer in messages.

    functions: those that may be called; None for none. body: what the text at the end must match.
    is_required: it ends with a call. max_thought_tokens: of each thought. shortfalls: what of the
    schemas is not held is added.
    """
    form = notation.form.messages
    assert form is not None
    writer = LarkWriter(notation.special_ids)
    unheld = [] if shortfalls is None else shortfalls
    following, end = writer.literal(form.next_message), writer.literal(form.close[0])
    ends = [f"({following})? call"] if functions is not None else []
    if not is_required:
        ends.append(f"({following})? text")
    writer.add("start", f"(({following})? thought)* ({' | '.join(ends)})")
    thought = writer.any_text()
    if max_thought_tokens is not None:
        thought = writer.new(r"/(.|\n)*/", "thought", f"max_tokens={max_thought_tokens}")
    writer.add("thought", f"{writer.literal(form.written_reasoning)} {thought} {end}")
    told = "body" if body is not None else writer.any_text()
    writer.add("text", f"{writer.literal(form.written_text)} {told}")
    if functions is not None:
        calls = []
        for number, (name, schema) in enumerate(functions):
            head, _, tail = form.written_call.replace("{name}", name).partition("{arguments}")
            arguments = _written(writer, notation, name, schema, unheld)
            call = f"{writer.literal(head)} {arguments} {writer.literal(tail)}".strip()
            calls.append(writer.add(f"call_{number}", call))
        writer.add("call", " | ".join(calls))
    return Grammar("lark", writer.text(), body, tuple(sorted(writer.used_ids)))


def _written(
    writer: LarkWriter,
    notation: ServedNotation,
    name: str,
    schema: Mapping[str, Any],
    shortfalls: list[Shortfall],
) -> str:
    """Return what the body of a call may be: its arguments, or a call in a form of its own."""
    if not notation.form.forms:
        return writer.json({"type": "object", **schema})
    form = notation.form.forms[0]
    call = call_of(writer, form, name, schema, shortfalls=shortfalls)
    around = writer.literal(form.section_open.text), writer.literal(form.section_close.text)
    return f"{around[0]} {call} {around[1]}".strip()
