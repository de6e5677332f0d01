"""Whatever a client sends, it gets OpenAI's error object, and nobody else notices."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.backend.factories import tiny_config
from tests.e2e.clients import RawStream, is_idle, request
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

MODEL = "tiny"
NUM_IDS = tiny_config().vocab_size


def body(**fields: Any) -> bytes:
    return json.dumps({"model": MODEL, "prompt": "Hello", "max_tokens": 4, **fields}).encode()


# name: body, status, param, code
REFUSED: dict[str, tuple[bytes, int, str | None, str]] = {
    "empty body": (b"", 400, None, "invalid_json"),
    "broken JSON": (b'{"model": ', 400, None, "invalid_json"),
    "not UTF-8": (b'{"model": "\xff"}', 400, None, "invalid_json"),
    "200 nested arrays": (
        body(prompt=json.loads("[" * 200 + "]" * 200)),
        400,
        None,
        "invalid_json",
    ),
    "unclosed nesting": (b'{"prompt":' + b"[" * 100_000, 400, None, "invalid_json"),
    "an array for a body": (b"[]", 400, None, "invalid_type"),
    "no prompt": (b'{"model": "x"}', 400, "prompt", "missing_required_parameter"),
    "prompt of a wrong type": (body(prompt={"a": 1}), 400, "prompt", "invalid_type"),
    "prompt of mixed types": (body(prompt=["a", 1]), 400, "prompt", "invalid_type"),
    "prompt of no prompts": (body(prompt=[]), 400, "prompt", "empty_array"),
    "max_tokens of a wrong type": (body(max_tokens="9"), 400, "max_tokens", "invalid_type"),
    "stream of a wrong type": (body(stream="yes"), 400, "stream", "invalid_type"),
    "max_tokens below its range": (
        body(max_tokens=-1),
        400,
        "max_tokens",
        "integer_below_min_value",
    ),
    "max_tokens above the context": (
        body(max_tokens=20_000),
        400,
        "max_tokens",
        "context_length_exceeded",
    ),
    "n of zero": (body(n=0), 400, "n", "integer_below_min_value"),
    "n above its range": (body(n=129), 400, "n", "integer_above_max_value"),
    "temperature above its range": (
        body(temperature=2.5),
        400,
        "temperature",
        "decimal_above_max_value",
    ),
    "five stop strings": (body(stop=list("abcde")), 400, "stop", "array_above_max_length"),
    "prompt longer than the context": (
        body(prompt="word " * 9000),
        400,
        "prompt",
        "context_length_exceeded",
    ),
    "id outside the vocabulary": (body(prompt=[1, NUM_IDS]), 400, "prompt", "invalid_token_id"),
    "negative id": (body(prompt=[[1], [-1]]), 400, "prompt", "invalid_token_id"),
    "half a surrogate pair": (b'{"prompt": "\\ud800"}', 400, None, "invalid_json"),
    "unknown model": (body(model="gpt-5"), 404, "model", "model_not_found"),
}


def post(server: Server, payload: bytes) -> tuple[int, dict[str, Any]]:
    status, _, answer = request(server.url, "POST", "/v1/completions", payload)
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["message"]
    return status, answer["error"]


@pytest.mark.parametrize("name", REFUSED)
def test_bad_request_gets_an_error_object_naming_the_fault(tiny_server: Server, name: str) -> None:
    payload, expected_status, param, code = REFUSED[name]
    status, error = post(tiny_server, payload)
    assert (status, error["param"], error["code"]) == (expected_status, param, code)


def test_message_says_what_was_sent_and_what_is_allowed(tiny_server: Server) -> None:
    _, error = post(tiny_server, body(temperature=2.5))
    assert "2.5" in error["message"] and "<= 2" in error["message"]
    _, error = post(tiny_server, body(prompt=[1, NUM_IDS]))
    assert f"{NUM_IDS} at position 1" in error["message"] and f"{NUM_IDS - 1}" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "expected_status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/gpt-5", 404, "model_not_found"),
    ],
)
def test_wrong_path_or_method_gets_an_error_object(
    tiny_server: Server, method: str, path: str, expected_status: int, code: str
) -> None:
    status, _, answer = request(tiny_server.url, method, path)
    assert (status, answer["error"]["code"]) == (expected_status, code)


def test_stream_beside_bad_requests_is_unaffected(tiny_server: Server) -> None:
    body = {"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "ignore_eos": True}

    def texts_of(stream: RawStream) -> Iterator[str]:
        return (chunk["choices"][0]["text"] for chunk in stream.chunks())

    with RawStream(tiny_server.url, {**body, "max_tokens": 100}) as alone:
        expected = "".join(texts_of(alone))
    # It would run for a minute: to the end of all bad requests on any machine.
    with RawStream(tiny_server.url, {**body, "max_tokens": 16_000}) as stream:
        texts = texts_of(stream)
        text = next(texts)
        for payload, *_ in REFUSED.values():
            post(tiny_server, payload)
            text += next(texts)
        assert not is_idle(tiny_server.url), "the stream was to run beside all of them"
        text += "".join(itertools.islice(texts, 100))
    assert text.startswith(expected)
