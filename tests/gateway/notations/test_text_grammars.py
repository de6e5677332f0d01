"""Strings that stand bare match what their schema says."""

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from backend.structured_output.json_schema import FORMATS
from backend.wire.sampling import Grammar
from gateway.notations.lark import without
from gateway.notations.shortfalls import NotCarried
from gateway.notations.text_formats import FORMAT_REGEXES
from gateway.notations.text_grammars import text_terminal
from tests.gateway.notations.test_grammars import accepts

SAMPLES = {
    "date": ["2024-02-29", "2023-12-31", "!2023-02-29", "!2024-13-01", "!2024-1-1"],
    "time": ["12:30:00Z", "23:59:59.5+01:00", "!24:00:00Z", "!12:30:00"],
    "date-time": ["2024-02-29T12:30:00Z", "!2024-02-30T12:30:00Z", "!2024-02-29"],
    "duration": ["P1W", "P1Y2M3D", "PT1H30M", "P1DT5S", "!P", "!1D", "!PT"],
    "email": ["a.b+c@example.org", "!a@", "!a b@c.d"],
    "hostname": ["example.org", "a-b", "!-a", "!a..b"],
    "ipv4": ["127.0.0.1", "255.255.255.255", "!256.0.0.1", "!1.2.3"],
    "ipv6": ["::1", "::", "1:2:3:4:5:6:7:8", "fe80::1:2", "1::", "!1:2:3", "!1::2::3"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "!123e4567"],
    "uri": ["https://a.b/c?d=e#f", "mailto:a@b.c", "urn:isbn:1", "!a b", "!//x"],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_formats_are_what_validators_take(name: str) -> None:
    assert set(SAMPLES) == set(FORMAT_REGEXES) == set(FORMATS)
    checker = FormatChecker()
    for sample in SAMPLES[name]:
        text, is_good = sample.removeprefix("!"), not sample.startswith("!")
        assert bool(re.fullmatch(FORMAT_REGEXES[name], text)) == is_good, sample
        if is_good and name in checker.checkers and name != "time":  # draft 3's, without a zone
            checker.check(text, name)


def matches(schema: Any, text: str) -> bool:
    terminal = without(f"({text_terminal(schema, {})})", ["</p>"])
    return accepts(Grammar("lark", f'start: T\nT: ({terminal}) "</p>"\n'), f"{text}</p>")


@pytest.mark.parametrize(
    "pattern", ["b", "^b", "b$", "^a|b$", "^(a|b)$", r"^\d{2}$", "^[^/]+/x$", r"\.", "[$^]", r"\$$"]
)
def test_patterns_are_searched_for(pattern: str) -> None:
    validator = Draft202012Validator({"pattern": pattern})
    texts = ("", "a", "b", "ab", "ba", "12", "123", "a/x", "a.b", "$", "a$b", "\nb", "b\n")
    for text in texts:
        if text.endswith("\n"):
            continue  # Python's $ matches before it, the standard's does not
        assert matches({"pattern": pattern}, text) == validator.is_valid(text), text


@pytest.mark.parametrize("pattern", ["(^a)b", "a$b", "(a|b$)", "a(?=^b)"])
def test_anchors_within_are_not_carried(pattern: str) -> None:
    with pytest.raises(NotCarried):
        text_terminal({"pattern": pattern}, {})


def test_marks_are_never_part_of_a_text() -> None:
    assert not matches({"type": "string"}, "a</p>b")
    assert matches({"type": "string"}, "a</b>\n<p>")


def test_schema_without_strings_has_no_texts() -> None:
    assert text_terminal({"anyOf": [{"type": "integer"}, False]}, {}) == ""
    assert text_terminal({"allOf": [{"type": "string"}, {"type": "null"}]}, {}) == ""
