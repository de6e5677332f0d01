"""Grammars of strings that stand without quotation marks, from their JSON schemas.

Owns patterns, lengths, formats and enumerations as expressions of Lark's terminals. Called by who
writes grammars of parameters and of values between marks.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.notations.lark import quoted
from gateway.notations.schema_types import resolved, types_of
from gateway.notations.shortfalls import NotCarried, joined
from gateway.notations.text_formats import FORMAT_REGEXES

ANY_TEXT = "/(?s:.*)/"
# References may lead to one schema on a great many ways, or back to where they stand.
_MAX_SCHEMAS = 256
_NO_TEXT = ""


def text_terminal(schema: Any, root: Mapping[str, Any], path: str = "") -> str:
    """Return an expression of a Lark terminal that matches the strings which a schema allows.

    "" where it allows none. root: the whole schema, where references lead. path: of the schema.
    Raises NotCarried.
    """
    return _Texts(root).of(schema, path)


class _Texts:
    """Writes the expression of one schema."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._num_schemas = 0

    def of(self, schema: Any, path: str) -> str:
        """Do what text_terminal() does."""
        if schema is False:
            return _NO_TEXT
        if not isinstance(schema, dict):
            return ANY_TEXT
        self._num_schemas += 1
        if self._num_schemas > _MAX_SCHEMAS:
            raise NotCarried(path, "its references lead to too many schemas")
        if "string" not in types_of(schema, self._root):
            return _NO_TEXT
        parts = _own_parts(schema, path)
        for keyword in ("anyOf", "oneOf"):
            if isinstance(branches := schema.get(keyword), list):
                ways = [
                    self.of(branch, joined(path, f"{keyword}[{n}]"))
                    for n, branch in enumerate(branches)
                ]
                parts.append(f"({' | '.join(filter(None, ways))})" if any(ways) else _NO_TEXT)
        needed = list(schema.get("allOf") or ())
        if "$ref" in schema:
            needed.append(resolved({"$ref": schema["$ref"]}, self._root))
        parts += [self.of(each, joined(path, f"allOf[{n}]")) for n, each in enumerate(needed)]
        if _NO_TEXT in parts:
            return _NO_TEXT
        wanted = [part for part in dict.fromkeys(parts) if part != ANY_TEXT]
        return f"({' & '.join(wanted)})" if wanted else ANY_TEXT


def _own_parts(schema: Mapping[str, Any], path: str) -> list[str]:
    """Return an expression of each keyword that says something of a string."""
    parts = []
    if isinstance(values := schema.get("enum"), list):
        parts.append(_literals(values))
    if "const" in schema:
        parts.append(_literals([schema["const"]]))
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least or most is not None:
        parts.append(f"/(?s:.{{{least},{'' if most is None else most}}})/")
    if (pattern := schema.get("pattern")) is not None:
        regex = _whole(pattern)
        if regex is None:
            raise NotCarried(joined(path, "pattern"), "an anchor stands within it")
        parts.append(f"/{regex}/")
    if (name := schema.get("format")) in FORMAT_REGEXES:
        parts.append(f"/{_slashed(FORMAT_REGEXES[name])}/")
    return parts


def _literals(values: Sequence[Any]) -> str:
    texts = [quoted(value) for value in values if isinstance(value, str)]
    return f"({' | '.join(texts)})"


def _whole(pattern: str) -> str | None:
    """Return an expression of whole strings that one which is searched for in them matches.

    None where it has anchors elsewhere than at the ends of its alternatives.
    """
    ways = []
    for way in _alternatives(pattern):
        begins = way.startswith("^")
        ends = way.endswith("$") and not _is_escaped(way, len(way) - 1)
        inner = way[begins : len(way) - ends]
        if any(char in "^$" for char, is_plain in _characters(inner) if is_plain):
            return None
        before, after = ("" if is_there else "(?s:.*)" for is_there in (begins, ends))
        ways.append(f"{before}(?:{inner}){after}")
    return _slashed("|".join(ways))


def _alternatives(pattern: str) -> list[str]:
    """Return the parts of a pattern between bars that stand outside of all brackets."""
    parts = [""]
    depth = 0
    for text, is_plain in _characters(pattern):
        if is_plain:
            depth += (text == "(") - (text == ")")
        if is_plain and text == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += text
    return parts


def _characters(pattern: str) -> list[tuple[str, bool]]:
    """Return characters of a pattern, each with its backslash, and whether it may be an operator:
    it is outside of character classes, and has no backslash."""
    found = []
    in_class = False
    for match in re.finditer(r"\\.|.", pattern, re.DOTALL):
        text = match[0]
        found.append((text, not in_class and len(text) == 1))
        if text == "[":
            in_class = True
        elif text == "]":
            in_class = False
    return found


def _is_escaped(text: str, position: int) -> bool:
    before = text[:position]
    return bool((len(before) - len(before.rstrip("\\"))) % 2)


def _slashed(regex: str) -> str:
    """Return a regular expression as it stands between slashes; digits are those of ASCII."""
    parts = []
    in_class = False
    for match in re.finditer(r"\\.|.", regex, re.DOTALL):
        text = match[0]
        if text == r"\d":
            text = "0-9" if in_class else "[0-9]"
        elif text in ("/", "\n"):
            text = {"/": r"\/", "\n": r"\n"}[text]
        in_class = text == "[" or (in_class and text != "]")
        parts.append(text)
    return "".join(parts)
