"""Marks are found, and what may become one is held back."""

import pytest

from gateway.notations.marks import MarkFinder

FINDER = MarkFinder(["<a>", "<a>b", "[x"])


@pytest.mark.parametrize(
    ("text", "at", "mark"),
    [
        ("1<a>2", 1, "<a>"), ("1<a>b", 1, "<a>b"), ("1<a>", 1, ""), ("1<", 1, ""), ("1<b", 3, ""),
        ("<<a>c", 1, "<a>"), ("[[", 1, ""), ("1[x<a>", 1, "[x"), ("", 0, ""),
    ],
)  # fmt: skip
def test_first_mark_is_found_or_waited_for(text: str, at: int, mark: str) -> None:
    assert FINDER.find(text) == (at, mark)


def test_nothing_is_waited_for_at_the_end() -> None:
    assert FINDER.find("1<a>", final=True) == (1, "<a>")
    assert FINDER.find("1<a", final=True) == (3, "")


def test_without_marks_nothing_is_found() -> None:
    assert MarkFinder([]).find("<a>") == (3, "")
