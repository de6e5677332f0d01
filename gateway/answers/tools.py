"""Finds the tool calls in what a model writes, and makes it write them when it must.

Owns one notation, Hermes': `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, which most
templates with tools teach. Streamed and buffered answers go through the same parser, so they cannot
differ. Knows no HTTP; one ToolParser a choice. Called by the chat endpoint.
"""

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

OPENING, CLOSING = "<tool_call>", "</tool_call>"

# It matches all that precedes the arguments, in the order that all templates show; another order
# is read too, but only once the call is complete.
_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)

# What may stand between two parts of arguments, as templates show it. Models that may write any
# amount of white space sometimes write nothing else.
_WHITESPACE = " "


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of one call. id and name come with the first piece, arguments (JSON) in all."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None


class ToolParser:
    """Splits the text of a choice into content and calls, as it arrives.

    White space before a call and after the last one is dropped. A block that is no call stays
    content. How the text was cut into deltas does not change what comes out.
    """

    def __init__(self, *, allows_parallel: bool = True) -> None:
        """allows_parallel: without it, calls after the first are dropped."""
        self.num_calls = 0
        self._allows_parallel = allows_parallel
        self._held = ""
        self._scanner: _ObjectScanner | None = None  # inside the arguments of a call
        self._is_inside = False  # between OPENING and CLOSING
        self._space = ""  # came before OPENING; dropped if a call follows

    def push(self, text: str) -> list[str | ToolDelta]:
        """Take more text; return what is certain."""
        self._held += text
        found: list[str | ToolDelta] = []
        while self._advance(found):
            pass
        return _joined(found)

    def flush(self) -> list[str | ToolDelta]:
        """Return what was held back: no more text will come. A call that broke off stays so."""
        held, self._held = self._held, ""
        if not self._is_inside:
            is_content = bool(held.strip()) or (bool(held) and self.num_calls == 0)
            return [held] if is_content else []
        if self._scanner is not None:
            return []
        found = self._whole_call(held)
        return [self._space + OPENING + held] if found is None else self._allowed(found)

    def _advance(self, found: list[str | ToolDelta]) -> bool:
        """Take one thing off the held text; say whether there may be another."""
        if self._scanner is not None:
            return self._read_arguments(found, self._scanner)
        return self._read_head(found) if self._is_inside else self._read_content(found)

    def _read_content(self, found: list[str | ToolDelta]) -> bool:
        at = self._held.find(OPENING)
        if at >= 0:
            content = self._held[:at]
            visible = content.rstrip()
            found += [visible] if visible else []
            self._space = content[len(visible) :]
            self._held = self._held[at + len(OPENING) :]
            self._is_inside = True
            return True
        keep = _overlap(self._held, OPENING)
        # White space waits too: it may turn out to be what separates two calls.
        visible = self._held[: len(self._held) - keep].rstrip()
        found += [visible] if visible else []
        self._held = self._held[len(visible) :]
        return False

    def _read_head(self, found: list[str | ToolDelta]) -> bool:
        head = _HEAD.match(self._held)
        if head is not None:
            name = _decoded(head["name"])
            if isinstance(name, str):
                found += self._allowed([self._begin(name)])
                self._held = self._held[head.end() :]
                self._scanner = _ObjectScanner()
                return True
        block, closing, rest = self._held.partition(CLOSING)
        if not closing:
            return False
        whole = self._whole_call(block)
        raw = self._space + OPENING + block + CLOSING
        found += [raw] if whole is None else self._allowed(whole)
        self._held, self._is_inside = rest, False
        return True

    def _read_arguments(self, found: list[str | ToolDelta], scanner: "_ObjectScanner") -> bool:
        if not scanner.is_complete:
            arguments, self._held = scanner.split(self._held)
            if arguments:
                found += self._allowed([ToolDelta(self.num_calls - 1, arguments)])
            if not scanner.is_complete:
                return False
        _, closing, rest = self._held.partition(CLOSING)
        if not closing:
            return False  # only a brace and white space, as a rule
        self._held, self._scanner, self._is_inside = rest, None, False
        return True

    def _whole_call(self, block: str) -> list[ToolDelta] | None:
        """Read a complete block, its members in any order; None if it is no call."""
        call = _decoded(block)
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            return None
        arguments = call.get("arguments", call.get("parameters", {}))
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        begun = self._begin(call["name"])
        return [ToolDelta(begun.index, text, begun.id, begun.name)]

    def _begin(self, name: str) -> ToolDelta:
        self.num_calls += 1
        return ToolDelta(self.num_calls - 1, "", f"call_{secrets.token_hex(12)}", name)

    def _allowed(self, deltas: list[ToolDelta]) -> list[str | ToolDelta]:
        return [delta for delta in deltas if delta.index == 0 or self._allows_parallel]


class _ObjectScanner:
    """Finds the end of a JSON object that begins with the next character."""

    def __init__(self) -> None:
        self.is_complete = False
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def split(self, text: str) -> tuple[str, str]:
        """Return what of `text` belongs to the object, and what comes after."""
        for position, char in enumerate(text):
            if self._is_escaped:
                self._is_escaped = False
            elif self._is_in_string:
                self._is_escaped = char == "\\"
                self._is_in_string = char != '"'
            elif char == '"':
                self._is_in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.is_complete = True
                    return text[: position + 1], text[position + 1 :]
        return text, ""


def calls_grammar(functions: Sequence[tuple[str, dict[str, Any]]], *, allows_parallel: bool) -> str:
    """Return the Lark grammar of an answer that consists of calls of these functions.

    functions: names, and JSON schemas of their arguments. Whitespace is what templates show.
    """
    rules, bodies = [], []
    for number, (name, schema) in enumerate(functions):
        # Each schema is a document of its own, or its references would lead nowhere.
        own = {"type": "object", "x-guidance": {"whitespace_pattern": _WHITESPACE}, **schema}
        head = f'{{"name": {json.dumps(name)}, "arguments": '
        bodies.append(f'{json.dumps(head)} arguments_{number} "}}"')
        rules.append(f"arguments_{number}: %json {json.dumps(own)}\n")
    start = 'call ("\\n" call)*' if allows_parallel else "call"
    return (
        f'start: {start}\ncall: "{OPENING}\\n" body "\\n{CLOSING}"\n'
        f"body: {' | '.join(bodies)}\n{''.join(rules)}"
    )


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text.strip())
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def _overlap(text: str, word: str) -> int:
    """Count the characters at the end of `text` that may be the beginning of `word`."""
    lengths = range(min(len(word) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(word[:length])), 0)


def _joined(found: list[str | ToolDelta]) -> list[str | ToolDelta]:
    """Join neighbouring pieces of content."""
    joined: list[str | ToolDelta] = []
    for piece in found:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
