"""The map of characters beside the rules that SentencePiece compiled it from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.text.vocab.charsmap import CharsMap
from tests.gateway.data.vocabularies import CHARSMAP

RULES = {
    **dict.fromkeys("\x01\x7f\ufeff\u202e", ""),
    **dict.fromkeys("\t\n\r\u00a0\u2003\u3000\u200b", " "),
    "\ufb01": "fi",
    "½": "1\u20442",
    "²": "2",
    "³": "3",
    "\u2167": "VIII",
    "\uff0b": "+",
    "…": "...",
    "ǆ": "dž",
    "ǅ": "Dž",
    "n\u0303": "ñ",
    "e\u0301": "é",
    "a\u0300": "à",
    "a\u0301": "á",
    "\u1100\u1161": "가",
    "\u1100\u1161\u11a8": "각",
    "\u212b": "Å",
    "\uff1c": "<",
    "\uff1e": ">",
    "\uff0f": "/",
    "\uff53": "s",
}
ALPHABET = sorted(set("".join(RULES)) | set("xyz ~é日😀"))


def charsmap() -> CharsMap:
    return CharsMap(CHARSMAP.read_bytes())


def expected(text: str) -> str:
    """Replace the longest rule at each place, from left to right."""
    result, position = "", 0
    while position < len(text):
        known = [length for length in (3, 2, 1) if text[position : position + length] in RULES]
        length = known[0] if known else 1
        result += RULES.get(text[position : position + length], text[position])
        position += length
    return result


@settings(deadline=None)
@given(st.text(st.sampled_from(ALPHABET), max_size=40))
def test_every_text_becomes_what_the_rules_make_of_it(text: str) -> None:
    own = charsmap()
    assert own.normalize(text) == expected(text)
    assert own.normalize(text) == expected(text)  # with pairs remembered


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_applied_wherever_it_stands(rule: str) -> None:
    own = charsmap()
    assert own.normalize(f"x{rule}y{rule}") == f"x{RULES[rule]}y{RULES[rule]}"


def test_marks_of_a_letter_with_several_are_kept() -> None:
    """`tokenizers` looks letters up with all their marks, and loses those that it finds not."""
    assert charsmap().normalize("n\u0303\u0323a\u0300\u0301") == "ñ\u0323à\u0301"


def test_bytes_may_be_signed() -> None:
    signed = [byte - 256 if byte > 127 else byte for byte in CHARSMAP.read_bytes()]
    assert CharsMap(signed).normalize("\ufb01") == "fi"


@pytest.mark.parametrize("blob", [b"", b"\0\0\0\0\0", b"\x08\0\0\0\0\0\0\0", b"\x03\0\0\0abcd\0"])
def test_damaged_map_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        CharsMap(blob)
