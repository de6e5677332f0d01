import msgspec
import pytest

from gateway.errors import ApiError, error_response, reworded_names
from gateway.requests.body import decode_body, is_deeper_than
from gateway.schema.chat import ChatRequest
from gateway.schema.completions import CompletionRequest
from gateway.schema.takeoff import TakeoffNewReader

DECODER = msgspec.json.Decoder(CompletionRequest)


def refusal_of(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as refused:
        decode_body(body, DECODER, max_depth=16)
    assert refused.value.status == 400
    return refused.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (rb"\ud83d", "half of a surrogate pair"),
        (rb"a\ude00b", "half of a surrogate pair"),
        (rb"\ud83d\ude00\q", "invalid escape"),
    ],
)
def test_half_a_character_is_not_called_a_cut_off_body(text: bytes, words: str) -> None:
    """It was said to be truncated, which the client cannot find."""
    error = refusal_of(b'{"model": "m", "prompt": "%b"}' % text)
    assert (error.code, error.param) == ("invalid_json", None) and words in error.message


@pytest.mark.parametrize(
    ("field", "value", "param", "code", "words"),
    [
        ("model", 5, "model", "invalid_type", "expected a string, but got an integer"),
        ("prompt", None, "prompt", "invalid_type", "a string or an array, but got null"),
        ("prompt", [[1, "a"]], "prompt", "invalid_type", "'prompt[0][1]'"),
        ("max_tokens", "9", "max_tokens", "invalid_type", "expected an integer, but got a string"),
        ("max_tokens", 1.5, "max_tokens", "invalid_type", "got a decimal number"),
        ("max_tokens", True, "max_tokens", "invalid_type", "got a boolean"),
        ("max_tokens", -1, "max_tokens", "integer_below_min_value", ">= 0, but got -1"),
        ("n", 0, "n", "integer_below_min_value", ">= 1, but got 0"),
        ("n", 130, "n", "integer_above_max_value", "<= 128, but got 130"),
        ("n", 10**30, "n", "integer_above_max_value", "<= 128, but got 1000"),
        ("temperature", 2.5, "temperature", "decimal_above_max_value", "<= 2, but got 2.5"),
        ("temperature", -1, "temperature", "decimal_below_min_value", ">= 0, but got -1"),
        ("top_p", 1.01, "top_p", "decimal_above_max_value", "<= 1, but got 1.01"),
        ("top_k", -2, "top_k", "integer_below_min_value", ">= -1, but got -2"),
        ("min_p", 7, "min_p", "decimal_above_max_value", "<= 1, but got 7"),
        ("seed", 2**63, "seed", "integer_above_max_value", "but got 9223372036854775808"),
        ("stop", "", "stop", "empty_string", "string is empty"),
        ("stop", ["a", ""], "stop", "empty_string", "'stop[1]'"),
        ("stop", list("abcde"), "stop", "array_above_max_length", "at most 4 elements, but got 5"),
        ("stop", "a" * 257, "stop", "string_above_max_length", "at most 256 characters"),
        ("stop", 5, "stop", "invalid_type", "a string or an array, but got an integer"),
        ("stream", "yes", "stream", "invalid_type", "expected a boolean, but got a string"),
        ("stream_options", [], "stream_options", "invalid_type", "an object, but got an array"),
        (
            "stream_options",
            {"include_usage": 1},
            "stream_options.include_usage",
            "invalid_type",
            "'stream_options.include_usage'",
        ),
        ("logit_bias", {"5": "x"}, "logit_bias", "invalid_type", "expected a number"),
        ("logit_bias", {"5": 101}, "logit_bias", "decimal_above_max_value", "value <= 100."),
        (
            "logit_bias",
            dict.fromkeys(map(str, range(301)), 1),
            "logit_bias",
            "object_above_max_length",
            "at most 300 elements, but got 301",
        ),
        ("timeout", 0, "timeout", "decimal_below_min_value", "> 0, but got 0"),
        ("request_id", "a b", "request_id", "invalid_value", "does not match ^[A-Za-z0-9._-]"),
        (
            "response_format",
            {"type": "xml"},
            "response_format.type",
            "invalid_value",
            "'xml' is none of the allowed values",
        ),
    ],
)
def test_wrong_value_is_described_by_field_code_and_words(
    field: str, value: object, param: str, code: str, words: str
) -> None:
    body = msgspec.json.encode({"model": "m", "prompt": "p", field: value})
    error = refusal_of(body)
    assert (error.param, error.code) == (param, code)
    assert words in error.message


def test_wrong_type_of_what_tells_kinds_apart_is_said_in_words() -> None:
    """msgspec does not say what it got instead, and its own words were shown."""
    body = b'{"model": "m", "messages": [{"role": "user"}], "tool_choice": {"type": ["function"]}}'
    with pytest.raises(ApiError) as refused:
        decode_body(body, msgspec.json.Decoder(ChatRequest), max_depth=16)
    assert refused.value.message == "Invalid type for 'tool_choice.type': expected a string."
    assert refused.value.code == "invalid_type"


def test_missing_field_is_named() -> None:
    error = refusal_of(b'{"prompt": "p"}')
    assert error.message == "Missing required parameter: 'model'."
    assert (error.param, error.code) == ("model", "missing_required_parameter")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model": "m", "prompt": "p"} tail',
        b'\xef\xbb\xbf{"model": "m", "prompt": "p"}',
        b'{"model": "m", "prompt": "\\ud800 half a character"}',
        b'{"model": "m", "prompt": "\xff"}',
        b'{"model": "m", "prompt": "\xf0\x9f\x98"}',
    ],
)
def test_what_is_not_json_is_refused_without_naming_a_field(body: bytes) -> None:
    error = refusal_of(body)
    assert (error.param, error.code) == (None, "invalid_json")


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"3", b"null"])
def test_json_that_is_no_object_is_refused(body: bytes) -> None:
    error = refusal_of(body)
    assert (error.param, error.code) == (None, "invalid_type")
    assert "the request body: expected an object" in error.message


@pytest.mark.parametrize("number", [b"1e999", b"9" * 5000])
def test_number_beyond_any_range_is_a_400(number: bytes) -> None:
    error = refusal_of(b'{"model": "m", "prompt": "p", "temperature": ' + number + b"}")
    assert error.param == "temperature"
    assert len(error.message) < 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"model": "m", "prompt": "p", "x": ' + b'[{"a":' * 50 + b"1" + b"}]" * 50 + b"}",
    ],
)
def test_deep_nesting_is_refused_before_it_is_decoded(body: bytes) -> None:
    assert "16 deep" in refusal_of(body).message


def test_depth_counts_levels_and_not_brackets() -> None:
    assert not is_deeper_than(b"[" + b"[1],{}," * 1000 + b"[]]", 2)
    assert is_deeper_than(b"[" + b"[1],{}," * 1000 + b"[[]]]", 2)
    assert not is_deeper_than(b'"' + rb"[[[[ \" [[[[ \\\" [[[[ " * 100 + b'"', 2)
    assert is_deeper_than(rb'["\\", [[' + b"]]]", 2)


@pytest.mark.parametrize(
    ("retry_after_s", "seconds", "milliseconds"),
    [
        (0.25, "1", "250"),
        (1.0, "1", "1000"),
        (2.5, "3", "2500"),
        (0.0, "1", "1"),
        (1e9, "60", "60000"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_overload_says_when_to_come_back(
    status: int, retry_after_s: float, seconds: str, milliseconds: str
) -> None:
    headers = error_response(ApiError(status, "later", retry_after_s=retry_after_s)).headers
    assert headers["retry-after"] == seconds
    assert headers["retry-after-ms"] == milliseconds
    assert headers["x-should-retry"] == "true"


@pytest.mark.parametrize("status", [400, 404, 405, 413])
def test_what_a_retry_cannot_heal_says_so(status: int) -> None:
    headers = error_response(ApiError(status, "no")).headers
    assert headers["x-should-retry"] == "false"
    assert "retry-after" not in headers


@pytest.mark.parametrize("status", [408, 500])
def test_what_a_retry_may_heal_leaves_it_to_the_client(status: int) -> None:
    assert "x-should-retry" not in error_response(ApiError(status, "perhaps")).headers


def test_body_has_the_four_keys() -> None:
    assert msgspec.json.decode(ApiError(429, "m", param="p").body()) == {
        "error": {"message": "m", "type": "rate_limit_error", "param": "p", "code": None}
    }


def test_body_of_too_many_names_is_refused_but_not_of_colons() -> None:
    names = b"{" + b",".join(b'"%d" :1' % i for i in range(100_001)) + b"}"
    assert "more than 100000 names" in refusal_of(names).message
    text = msgspec.json.encode({"model": "m", "prompt": '":' * 200_000})
    assert decode_body(text, DECODER, max_depth=16).prompt == '":' * 200_000


def test_names_of_fields_are_said_in_the_words_of_a_dialect() -> None:
    words = {"response_format.json_schema": "text.format", "messages": "input"}
    names = "response_format.json_schema.schema.a, messages[0].content, messages_of, x.messages"
    assert (
        reworded_names(names, words)
        == "text.format.schema.a, input[0].content, messages_of, x.messages"
    )
    assert reworded_names("messages", words) == "input"


def test_pattern_is_said_as_others_write_it() -> None:
    r"""It was said with msgspec's double backslash, and with Python's \Z."""
    decoder = msgspec.json.Decoder(TakeoffNewReader)
    with pytest.raises(ApiError) as refused:
        decode_body(b'{"model_name": "m", "consumer_group": "a b"}', decoder, max_depth=16)
    assert str(refused.value).endswith(" does not match ^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$.")
