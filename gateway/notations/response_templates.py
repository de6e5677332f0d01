"""Reads the response template that a tokenizer's files may have, as a notation.

transformers 5.23 describes there with regular expressions what a notation says with forms; those
that are literal text, white space and the name of a tool have a form. Called by library.py.
"""

import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from backend.config.hf_directory import read_json
from gateway.notations.compiled import compiled
from gateway.notations.forms import FormError
from gateway.notations.notation import CallForm, Notation, ReasoningForm

_REASONING = ("reasoning_content", "reasoning", "thinking")
# The pieces of a pattern that have a form; what is left of it is literal text.
_SPACE = re.compile(r"\\s[*+]")
_GROUP = re.compile(r"\(\?P<(\w+)>(?:\[\^?[^\]]*\]|\\?[\w.])[*+]\??\)")
_SPECIAL = re.compile(r"(?<!\\)[.*+?()\[\]{}^$|]|\\[a-zA-Z0-9]")
_SLOTS = {"name": "{name}", "key": "{key}", "value": "{value}", "id": "{ignored}"}


class _Field(msgspec.Struct):
    open: str | list[str] | None = None
    open_pattern: str | None = None
    close: str | list[str] | None = None
    close_pattern: str | None = None
    content: str = "text"
    content_args: dict[str, Any] = {}
    transform: Any = None
    transform_each: bool = False


class _ResponseTemplate(msgspec.Struct):
    fields: dict[str, _Field] = {}
    version: Literal[1] = 1


class _TokenizerConfig(msgspec.Struct):
    response_template: Any = None


class UnknownForm(ValueError):
    """A template that no notation describes; the message says what of it."""


def shipped_notation(path: Path) -> Notation | None:
    """Return what a model's directory says of how it writes; None where it says nothing.

    Raises UnknownForm, and ModelError for files that cannot be read.
    """
    file = path / "tokenizer_config.json"
    if not path.is_dir() or not file.is_file():
        return None
    template = read_json(file, _TokenizerConfig).response_template
    return None if template is None else of_response_template(template)


def of_response_template(template: Any) -> Notation:
    """Return a response template as a notation. Raises UnknownForm."""
    try:
        fields = msgspec.convert(template, _ResponseTemplate).fields
    except msgspec.ValidationError as error:
        raise UnknownForm(str(error)) from None
    thought = next((fields[name] for name in _REASONING if name in fields), None)
    calls = fields.get("tool_calls")
    notation = Notation(
        calls=(_calls(calls),) if calls else (),
        reasoning=_reasoning(thought) if thought else None,
    )
    try:
        compiled(notation, notation)
    except FormError as error:
        raise UnknownForm(f"'{error.field}' {error}") from None
    return notation


def _reasoning(field: _Field) -> ReasoningForm:
    opening = _form(field.open, field.open_pattern).strip()
    closing = _form(field.close, field.close_pattern).strip()
    if not closing or "{" in opening + closing:
        raise UnknownForm("the marks of thoughts")
    return ReasoningForm(open=opening or "<think>", close=closing, starts_open=not opening)


def _calls(field: _Field) -> CallForm:
    opening = _form(field.open, field.open_pattern).lstrip()
    closing = _form(field.close, field.close_pattern)
    function = field.transform.get("function") if isinstance(field.transform, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    section = "{calls}"
    parameter = ""
    match field.content:
        case "json" if "{name}" in opening:
            content = "{arguments}"
        case "json":
            content = "{object}"
            if field.transform_each:
                opening, closing = opening.rstrip("["), closing.lstrip("]")
                section, opening, closing = f"{opening}[{{calls}}]{closing}", "", ""
        case "xml-inline" if "{name}" in opening:
            content = "{parameters}"
            parameter = _of_pattern(str(field.content_args.get("tag_pattern", "")))
        case other:
            raise UnknownForm(f"contents of the kind {other!r}")
    if content != "{object}" and arguments != "{content}":
        raise UnknownForm("how the arguments of calls are put together")
    marks = field.content_args.get("string_delims") or [["", ""]]
    if len(marks) != 1 or marks[0][0] != marks[0][1]:
        raise UnknownForm("several marks around strings")
    return CallForm(
        call=f"{opening}{content}{closing}",
        section=section,
        separator=", " if field.transform_each else "",
        parameter=parameter,
        string_mark=marks[0][0],
        bare_keys=bool(field.content_args.get("unquoted_keys")),
    )


def _form(literal: str | list[str] | None, pattern: str | None) -> str:
    if pattern is not None:
        return _of_pattern(pattern)
    if isinstance(literal, list):
        return literal[0] if literal else ""
    return literal or ""


def _of_pattern(pattern: str) -> str:
    """Return a regular expression as a form. Raises UnknownForm."""
    form = ""
    position = 0
    while position < len(pattern):
        if space := _SPACE.match(pattern, position):
            form += "\n"
            position = space.end()
        elif (group := _GROUP.match(pattern, position)) and group[1] in _SLOTS:
            form += _SLOTS[group[1]]
            position = group.end()
        elif _SPECIAL.match(pattern, position):
            raise UnknownForm(f"the pattern {pattern!r}")
        else:
            position += pattern[position] == "\\"
            form += pattern[position : position + 1]
            position += 1
    return form
