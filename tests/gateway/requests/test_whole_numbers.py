"""Integers may be written with a fraction of zero; nothing else becomes an integer."""

from typing import Any

import msgspec
import pytest

from backend.wire.messages import FinishReason
from gateway.errors import ApiError
from gateway.requests.body import decode_body
from gateway.requests.whole_numbers import with_whole_numbers
from gateway.schema.anthropic import MessagesRequest
from gateway.schema.chat import ChatRequest
from gateway.schema.completions import CompletionRequest
from gateway.schema.embeddings import EmbeddingRequest
from gateway.schema.rerank import RerankRequest
from gateway.schema.responses import ResponsesRequest
from gateway.schema.tokenize import DetokenizeRequest, TokenizeRequest
from tests.gateway.fakes import Exchange, FakePool, app_of

HI = [{"role": "user", "content": "x"}]
KINDS: list[tuple[type[msgspec.Struct], dict[str, Any]]] = [
    (CompletionRequest, {"model": "m", "prompt": "x"}),
    (ChatRequest, {"model": "m", "messages": HI}),
    (
        MessagesRequest,
        {"model": "m", "max_tokens": 1, "messages": HI},
    ),
    (ResponsesRequest, {"model": "m", "input": "x"}),
    (EmbeddingRequest, {"model": "m", "input": "x"}),
    (RerankRequest, {"model": "m", "query": "x", "documents": ["x"]}),
    (DetokenizeRequest, {"tokens": [1]}),
    (TokenizeRequest, {}),
]


def decoded(kind: Any, body: bytes) -> Any:
    return decode_body(body, msgspec.json.Decoder(kind), 64)


def integer_fields(kind: type[msgspec.Struct]) -> list[str]:
    """Fields that take an integer and no other number."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    schema = {field.name: str(field.type) for field in info.fields}
    others = ("FloatType", "StructType")
    return [
        name
        for name, text in schema.items()
        if "IntType" in text and not any(other in text for other in others)
    ]


FIELDS = [(kind, rest, name) for kind, rest in KINDS for name in integer_fields(kind)]


def test_all_integer_fields_are_looked_at() -> None:
    names = {name for _, _, name in FIELDS}
    assert {"max_tokens", "seed", "n", "prompt", "stop_token_ids", "tokens", "top_n"} <= names
    assert len(FIELDS) > 30


@pytest.mark.parametrize(("kind", "rest", "name"), FIELDS)
def test_whole_decimal_is_an_integer(kind: Any, rest: dict[str, Any], name: str) -> None:
    """It was a 400, though some languages write no other numbers."""
    is_list = name in ("prompt", "input", "tokens", "stop_token_ids", "allowed_token_ids")
    whole = decoded(kind, msgspec.json.encode({**rest, name: [1, 2] if is_list else 1}))
    decimal = decoded(kind, msgspec.json.encode({**rest, name: [1.0, 2.0] if is_list else 1.0}))
    assert decimal == whole
    assert repr(decimal) == repr(whole), "of the same types, too"
    for wrong in (1.5, "1", True, 2.0**53 + 2):
        if isinstance(wrong, str) and name in ("prompt", "input"):
            continue
        body = msgspec.json.encode({**rest, name: [wrong] if is_list and wrong != "1" else wrong})
        with pytest.raises(ApiError) as raised:
            decoded(kind, body)
        assert raised.value.param == name


def test_lists_of_lists_and_objects_of_integers() -> None:
    body = b'{"model": "m", "prompt": [[1.0, 2e0], [30e-1]], "temperature": 1.0}'
    request = decoded(CompletionRequest, body)
    assert repr(request.prompt) == "[[1, 2], [3]]" and repr(request.temperature) == "1.0"


def test_numbers_inside_schemas_stay_as_they_are_written() -> None:
    schema = b'{"type": "number", "minimum": 1.0}'
    body = b'{"model": "m", "prompt": "x", "n": 2.0, "structured_outputs": {"json": %b}}' % schema
    request = decoded(CompletionRequest, body)
    assert request.n == 2
    assert repr(request.structured_outputs.json["minimum"]) == "1.0"
    assert with_whole_numbers(b"[1.0]", list[float]) == b"[1.0]"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"1.5", "expected an integer or null, but got a decimal number"),
        (b"NaN", "JSON has no NaN"),
        (b"-Infinity", "JSON has no -Infinity"),
        (b"1e999", "out of range"),
    ],
)
def test_no_integer_is_refused_with_the_field_s_name(value: bytes, words: str) -> None:
    for name in (b"max_tokens", b"n"):
        with pytest.raises(ApiError) as raised:
            decoded(CompletionRequest, b'{"model": "m", "prompt": "x", "%b": %b}' % (name, value))
        assert raised.value.param == name.decode()
        assert words.split(" or null")[0] in raised.value.message


def test_no_number_deep_inside_is_found() -> None:
    body = b'{"model": "m", "prompt": "NaN", "logit_bias": {"5": NaN}}'
    with pytest.raises(ApiError) as raised:
        decoded(CompletionRequest, body)
    assert raised.value.message == "Invalid 'logit_bias.5': JSON has no NaN."
    assert raised.value.param == "logit_bias"


def test_broken_json_that_speaks_of_nan_is_just_broken() -> None:
    with pytest.raises(ApiError) as raised:
        decoded(CompletionRequest, b'{"model": "NaN", "prompt": ')
    assert raised.value.code == "invalid_json"


@pytest.mark.anyio
async def test_endpoint_takes_sixteen_point_nought() -> None:
    pool = FakePool(script=(b"ab", FinishReason.LENGTH))
    body = b'{"model": "tiny", "prompt": [104.0], "max_tokens": 2.0, "seed": 7.0}'
    exchange = await Exchange(app_of(pool), "POST", "/v1/completions", body).finished()
    assert exchange.status == 200, exchange.body
    assert (pool.submitted[0].params.max_tokens, pool.submitted[0].prompt_ids) == (2, [104])
