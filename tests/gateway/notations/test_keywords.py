"""Arguments in Python's notation become the JSON of the same values."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.notations.arguments import ArgumentReader
from gateway.notations.keywords import KeywordReader
from tests.gateway.notations.parsing import cut

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYWORDS = st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), VALUES, max_size=4)


def read(reader: ArgumentReader, pieces: list[str]) -> tuple[str, str]:
    """Return the JSON, and what was left over."""
    found, held = "", ""
    for piece in pieces:
        held += piece
        if not reader.is_complete:
            json_text, length = reader.read(held)
            found, held = found + json_text, held[length:]
    assert reader.is_complete
    return found, held


@given(KEYWORDS, st.lists(st.integers(0, 200), max_size=20))
def test_python_values_become_json(keywords: dict[str, Any], cuts: list[int]) -> None:
    text = ", ".join(f"{key}={value!r}" for key, value in keywords.items()) + "), g()]"
    found, left = read(KeywordReader(), cut(text, cuts))
    assert json.loads(found) == keywords
    assert left == "), g()]"


def test_tuples_trailing_commas_and_bare_words_are_read() -> None:
    found, _ = read(KeywordReader(), ["a=(1, 2,), b=[x, -1.5], c={'k': (None,)},)"])
    assert json.loads(found) == {"a": [1, 2], "b": ["x", -1.5], "c": {"k": [None]}}


def test_escapes_of_python_are_characters() -> None:
    found, _ = read(KeywordReader(), [r"a='\x41\u00e9\U0001F600\'\n\q', b='\ud800', c='x\\')"])
    assert json.loads(found) == {"a": "Aé😀'\nq", "b": "\ufffd", "c": "x\\"}
