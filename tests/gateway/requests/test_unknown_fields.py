import msgspec
import pytest

from gateway.errors import ApiError
from gateway.requests.unknown_fields import HEADER, ignored_header, unknown_fields

KNOWN = ("max_tokens", "stop", "structured_outputs", "temperature", "model")


def test_unknown_names_are_found_in_their_order() -> None:
    body = msgspec.json.encode({"b": {"c": [1]}, "stop": "x", "a": None})
    assert unknown_fields(body, KNOWN, is_strict=False) == ["b", "a"]
    assert unknown_fields(b'{"stop": 1}', KNOWN, is_strict=True) == []


@pytest.mark.parametrize(("given", "told"), [({}, ["web_search_options"]), (None, [])])
def test_search_that_is_not_made_is_told_of(given: object, told: list[str]) -> None:
    """OpenAI's client has the field, so it is known; it was ignored in silence."""
    body = msgspec.json.encode({"web_search_options": given})
    known = ("web_search_options", *KNOWN)
    assert unknown_fields(body, known, is_strict=True) == told


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_token", "max_tokens"),
        ("max_new_tokens", "max_tokens"),
        ("Temperature", "temperature"),
        ("json_schema", "structured_outputs"),
        ("max_length", "max_tokens"),
        ("stop_sequences", "stop"),
    ],
)
def test_strict_refuses_and_says_what_was_probably_meant(name: str, meant: str) -> None:
    with pytest.raises(ApiError) as refused:
        unknown_fields(msgspec.json.encode({name: 1}), KNOWN, is_strict=True)
    assert (refused.value.param, refused.value.code) == (name, "unknown_parameter")
    assert refused.value.message == f"Unknown parameter: '{name}'; did you mean {meant}?"


def test_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(ApiError, match=r"Unknown parameter: 'zzz'\.$"):
        unknown_fields(b'{"zzz": 1}', KNOWN, is_strict=True)


def test_header_lists_names() -> None:
    assert ignored_header(["foo", "bar"]) == {HEADER: "foo, bar"}
    assert ignored_header([]) == {}


def test_header_cannot_be_broken_out_of_or_made_long() -> None:
    [value] = ignored_header(["a\r\nset-cookie: x", "é,", "", *["x" * 10_000] * 100]).values()
    assert value.startswith("a__set-cookie__x, __, _, xxx")
    assert value.endswith(", and 87 more")
    assert value.isascii() and value.isprintable()
    assert len(value) < 16 * 98 + 20
