"""Almost-JSON becomes JSON of the same values."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.notations.marked_json import MarkedJsonReader
from tests.gateway.notations.parsing import cut
from tests.gateway.notations.test_keywords import KEYWORDS, read

MARK = '<|"|>'


def marked(value: Any) -> str:
    """Write a value as Gemma 4's template does."""
    match value:
        case str():
            return f"{MARK}{value}{MARK}"
        case dict():
            return "{" + ",".join(f"{key}:{marked(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ",".join(map(marked, value)) + "]"
        case bool():
            return "true" if value else "false"
    return str(value)


def is_plain(value: Any) -> bool:
    """Whether its keys can stand bare, and its texts have no mark in them."""
    if isinstance(value, dict):
        return all(key.isalnum() and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return not isinstance(value, str) or "<" not in value


@given(KEYWORDS.filter(is_plain), st.lists(st.integers(0, 200), max_size=20))
def test_marked_values_become_json(values: dict[str, Any], cuts: list[int]) -> None:
    found, left = read(MarkedJsonReader(MARK), cut(marked(values) + "<tool_call|>", cuts))
    assert json.loads(found) == values
    assert left == "<tool_call|>"


def test_json_itself_and_bare_words_are_read() -> None:
    found, _ = read(MarkedJsonReader(MARK), ['{"a": "x\\"y", b: [None, word, True, 1e3]}'])
    assert json.loads(found) == {"a": 'x"y', "b": [None, "word", True, 1000.0]}
