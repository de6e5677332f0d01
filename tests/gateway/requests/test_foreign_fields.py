"""What would change the meaning of a request is refused; what decorates it is ignored."""

from typing import Any

import msgspec
import pytest

from backend.wire.messages import FinishReason
from gateway.errors import ApiError
from gateway.requests.foreign_fields import SYNONYMS
from gateway.requests.unknown_fields import unknown_fields
from gateway.schema.anthropic import MessagesRequest
from gateway.schema.chat import ChatRequest
from gateway.schema.completions import CompletionRequest
from gateway.schema.embeddings import EmbeddingRequest
from gateway.schema.ollama import OllamaChatRequest
from gateway.schema.responses import ResponsesRequest
from tests.gateway.fakes import FakePool, app_of, complete

pytestmark = pytest.mark.anyio

KNOWN = CompletionRequest.__struct_fields__


def refused(name: str, value: Any) -> str:
    with pytest.raises(ApiError) as raised:
        unknown_fields(msgspec.json.encode({name: value}), KNOWN, is_strict=False)
    assert (raised.value.status, raised.value.param) == (400, name)
    assert raised.value.code == "unsupported_parameter"
    return raised.value.message


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("json_schema", {"type": "object"}, "structured_outputs"),
        ("regex", "a+", "structured_outputs"),
        ("max_new_tokens", 5, "max_tokens"),
        ("max_completion_tokens", 5, "max_tokens"),
        ("stop_sequences", ["x"], "stop"),
        ("repeat_penalty", 1.1, "repetition_penalty"),
        ("length_penalty", 0.5, ""),
        ("use_beam_search", True, ""),
        ("typical_p", 0.9, ""),
        ("lora_path", "x", ""),
        ("guided_whitespace_pattern", " ?", ""),
        ("max_time", 3, "timeout"),
        ("tools", [{}], ""),
    ],
)
def test_constraint_not_honoured_is_refused(name: str, value: Any, meant: str) -> None:
    """It was dropped with a 200."""
    message = refused(name, value)
    assert message.endswith(f"; did you mean {meant}?" if meant else "not supported.")


@pytest.mark.parametrize(
    ("name", "asked", "done"),
    [
        ("add_special_tokens", False, True),
        ("normalize", False, True),
        ("use_activation", False, None),
        ("embed_dtype", "float16", "float32"),
        ("endianness", "big", "little"),
    ],
)
def test_what_is_done_anyway_cannot_be_turned_off(name: str, asked: Any, done: Any) -> None:
    """Vectors came normalised, of texts with special tokens, though a request said not to."""
    known = EmbeddingRequest.__struct_fields__
    with pytest.raises(ApiError, match=f"'{name}' would change what this request means"):
        unknown_fields(msgspec.json.encode({name: asked}), known, is_strict=False)
    body = msgspec.json.encode({name: done})
    assert unknown_fields(body, known, is_strict=False) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("json_schema", None),
        ("tools", []),
        ("use_beam_search", False),
        ("length_penalty", 1.0),
        ("repeat_penalty", 1),
        ("typical_p", 1),
        ("mirostat", 0),
        ("top_n_sigma", -1.0),
        ("n_predict", -1),
        ("echo_of_nobody", True),
        ("client_version", "1.2"),
    ],
)
def test_neutral_value_and_decoration_are_ignored(name: str, value: Any) -> None:
    body = msgspec.json.encode({name: value})
    assert unknown_fields(body, KNOWN, is_strict=False) == [name]


def test_limit_said_under_both_names_is_honoured() -> None:
    """Some load generators send it twice."""
    body = {"max_tokens": 5, "max_completion_tokens": 5}
    encode = msgspec.json.encode
    assert unknown_fields(encode(body), KNOWN, is_strict=False) == ["max_completion_tokens"]
    with pytest.raises(ApiError):
        unknown_fields(encode(body | {"max_tokens": 6}), KNOWN, is_strict=False)


def test_synonyms_are_fields_of_some_request() -> None:
    kinds = (CompletionRequest, ChatRequest, EmbeddingRequest)
    known = {name for kind in kinds for name in kind.__struct_fields__}
    assert set(SYNONYMS.values()) <= known


async def test_endpoint_refuses_a_limit_under_another_name() -> None:
    pool = FakePool(script=(b"a", FinishReason.LENGTH))
    exchange = await complete(app_of(pool), max_new_tokens=1).finished()
    assert (exchange.status, exchange.error["param"]) == (400, "max_new_tokens")
    exchange = await complete(app_of(pool), max_new_tokens=None, max_tokens=1).finished()
    assert exchange.headers["x-unisono-ignored-fields"] == "max_new_tokens"


@pytest.mark.parametrize(
    ("outer", "fields", "name"),
    [
        ("response_format", {"type": "json_object", "schema": {"type": "object"}}, "schema"),
        ("structured_outputs", {"json": {}, "whitespace_pattern": " ?"}, "whitespace_pattern"),
    ],
)
def test_constraint_inside_a_field_is_refused_too(
    outer: str, fields: dict[str, Any], name: str
) -> None:
    """llama.cpp's way to give a schema was taken for any object."""
    with pytest.raises(ApiError) as raised:
        unknown_fields(msgspec.json.encode({outer: fields}), KNOWN, is_strict=False)
    assert raised.value.param == outer and f"'{outer}.{name}'" in raised.value.message
    neutral = {outer: fields | {name: None, "else": 1}}
    assert unknown_fields(msgspec.json.encode(neutral), KNOWN, is_strict=False) == []


@pytest.mark.parametrize(
    ("struct", "fields", "param", "meant"),
    [
        (ChatRequest, {"think": False}, "think", "thinking"),
        (ChatRequest, {"output_config": {"effort": "low"}}, "output_config", "response_format"),
        (ChatRequest, {"system": "Be brief."}, "system", ""),
        (CompletionRequest, {"enable_thinking": False}, "enable_thinking", ""),
        (MessagesRequest, {"stop": ["a"]}, "stop", "stop_sequences"),
        (MessagesRequest, {"guided_json": {"type": "object"}}, "guided_json", ""),
        (MessagesRequest, {"parallel_tool_calls": False}, "parallel_tool_calls", ""),
        (ResponsesRequest, {"reasoning_effort": "low"}, "reasoning_effort", "reasoning"),
        (ResponsesRequest, {"messages": [{"role": "user"}]}, "messages", "input"),
        (OllamaChatRequest, {"temperature": 0}, "temperature", "options.temperature"),
        (OllamaChatRequest, {"max_tokens": 5}, "max_tokens", "options.num_predict"),
        (OllamaChatRequest, {"enable_thinking": True}, "enable_thinking", "think"),
        (OllamaChatRequest, {"options": {"mirostat": 2}}, "options", ""),
    ],
)
def test_words_of_another_dialect_are_no_decoration(
    struct: type[msgspec.Struct], fields: dict[str, Any], param: str, meant: str
) -> None:
    """They were ignored: `stop` of a message, `temperature` beside Ollama's options."""
    known, body = struct.__struct_fields__, msgspec.json.encode(fields)
    with pytest.raises(ApiError) as raised:
        unknown_fields(body, known, is_strict=False, is_answered=True)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert raised.value.message.endswith(f"; did you mean {meant}?" if meant else "supported.")
    if param != "options":  # who only counts tokens may send all of a request
        assert unknown_fields(body, known, is_strict=False) == [param]


def test_another_dialects_words_for_nothing_are_ignored() -> None:
    fields = {"parallel_tool_calls": True, "tool_choice": "auto", "n": 1, "stop": None, "text": {}}
    body = msgspec.json.encode(fields | {"response_format": {"type": "text"}, "keep_alive": 5})
    known = MessagesRequest.__struct_fields__
    ignored = unknown_fields(body, known, is_strict=False, is_answered=True)
    assert len(ignored) == len(fields) + 2 - ("tool_choice" in known)
