"""Bodies that make no sense: a 400 or 404 that names the field, and nothing submitted."""

from typing import Any

import msgspec
import pytest

from gateway.app import create_app
from tests.gateway.completion_requests import (
    completed,
    refused,
    scripted,
)
from tests.gateway.fakes import (
    VOCAB_SIZE,
    Exchange,
    FakePool,
    app_of,
    complete,
    make_service,
)


async def test_unknown_model_is_a_404() -> None:
    exchange = await refused(model="gpt-9")
    assert exchange.status == 404
    assert (exchange.error["param"], exchange.error["code"]) == ("model", "model_not_found")
    assert "gpt-9" in exchange.error["message"]


async def test_answer_has_the_name_that_was_asked_for() -> None:
    assert (await completed(FakePool(), model="org/tiny", max_tokens=0)).json["model"] == "org/tiny"


async def test_model_may_be_the_name_of_groups() -> None:
    pool = scripted(b"x")
    pool.names.set({0: "primary", 1: "batch", 2: "tiny"})
    for model in ("org/tiny", "batch", "primary", "tiny"):
        await completed(pool, model=model, max_tokens=1)
    asked = [submitted.group for submitted in pool.submitted.values()]
    assert asked == ["", "batch", "primary", ""], "the model's own name goes before a group's"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": "x"}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"logprobs": 21}, "logprobs"),
        ({"best_of": 21}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"min_tokens": 20}, "min_tokens"),
        ({"logit_bias": {str(VOCAB_SIZE): 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(301)}}, "logit_bias"),
        ({"bad_words": ["x"] * 129}, "bad_words"),
        ({"bad_words": [""]}, "bad_words"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"stop_token_ids": [VOCAB_SIZE]}, "stop_token_ids"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": 5e-324}, "repetition_penalty"),  # zero in float32: it was a 500
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"request_id": "a b"}, "request_id"),
        ({"timeout": 0}, "timeout"),
        ({"suffix": "x"}, "suffix"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"n": 20, "logprobs": 20, "max_tokens": 900, "best_of": 20, "prompt": ["a"] * 5},
            "logprobs",
        ),
        ({"prompt_logprobs": 20, "n": 128, "prompt": [1] * 900}, "prompt_logprobs"),
        ({"prompt": {"a": 1}}, "prompt"),
    ],
)
async def test_wrong_field_is_a_400_that_names_it(fields: dict[str, Any], param: str) -> None:
    exchange = await refused(**fields)
    assert exchange.status == 400
    assert exchange.error["param"] == param
    assert exchange.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": "tiny", "prompt": "\xff"}', b"[" * 10**6, b"\x00"]
)
async def test_body_that_is_no_request_is_a_400(body: bytes) -> None:
    exchange = await Exchange(app_of(FakePool()), "POST", "/v1/completions", body).finished()
    assert exchange.status == 400
    assert exchange.error["type"] == "invalid_request_error"


async def test_priority_and_cache_salt_reach_the_pool() -> None:
    pool = scripted(b"x")
    await completed(pool, priority=-3, cache_salt="s")
    assert (pool.submitted[0].priority, pool.submitted[0].cache_salt) == (-3, ":s")


@pytest.mark.parametrize("stream", [False, True])
async def test_unknown_fields_are_reported_in_a_header(stream: bool) -> None:
    exchange = await completed(scripted(b"x"), stream=stream, foo=1, bar={"deep": []})
    assert exchange.status == 200
    assert exchange.headers["x-unisono-ignored-fields"] == "foo, bar"
    assert "x-unisono-ignored-fields" not in (await completed(scripted(b"x"))).headers


async def test_strict_server_refuses_unknown_fields() -> None:
    app = create_app(make_service(FakePool(), strict=True))
    exchange = await complete(app, max_token=5).finished()
    assert (exchange.status, exchange.error["param"]) == (400, "max_token")
    assert "did you mean max_tokens?" in exchange.error["message"]


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"max_tokens": 0, "n": 129}])
async def test_request_id_of_the_body_goes_before_that_of_the_header(
    fields: dict[str, Any],
) -> None:
    body = msgspec.json.encode({"model": "tiny", "prompt": "p", "request_id": "mine", **fields})
    headers = [("x-request-id", "other")]
    app = app_of(FakePool())
    exchange = await Exchange(app, "POST", "/v1/completions", body, headers).finished()
    expected = "other" if "n" in fields else "mine"  # not even decoded then
    assert exchange.headers["x-request-id"] == expected
