"""The page says its numbers as people write them."""

import re

import pytest

from gateway.description.docs_page import _range, docs_page
from gateway.description.openapi import openapi

PAGE = docs_page(openapi(), "tiny", {"Context": "8,192 tokens"})
TYPES = re.findall(r"<td class=type>(.*?)</td>", PAGE)


def test_no_number_has_an_exponent() -> None:
    """The range of priorities began at -2.14748e+09."""
    assert len(TYPES) > 100
    assert not [text for text in TYPES if re.search(r"\de[+-]?\d", text)]


def test_ranges_are_told_whole() -> None:
    assert "integer, -2,147,483,648 to 2,147,483,647" in TYPES  # priority
    assert "number, 0.01 to 100" in TYPES  # repetition_penalty
    assert "number, more than 0, up to 86,400" in TYPES  # timeout


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"minimum": -1}, ", -1 or more"),
        ({"maximum": 10**7}, ", up to 10,000,000"),
        ({"minimum": 0.5, "maximum": 2.0}, ", 0.5 to 2"),
        ({"minimum": -(2**63), "maximum": 2**63 - 1}, ""),
        ({"minimum": 0, "maximum": 2**63 - 1}, ", 0 or more"),
        ({}, ""),
    ],
)
def test_bound_that_says_nothing_is_left_out(field: dict[str, float], words: str) -> None:
    assert _range(field, "imum", "") == words
