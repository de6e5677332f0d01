"""Completions that cannot be served: a 400 or 404 that names the field, and nothing submitted."""

from typing import Any

import pytest

from tests.gateway.answers.generation_requests import LENGTH, completed, refused
from tests.gateway.fakes import (
    VOCAB_SIZE,
    ByteTokenizer,
    Exchange,
    FakePool,
    app_of,
)


async def test_unknown_model_is_a_404() -> None:
    exchange = await refused(model="gpt-9")
    assert exchange.status == 404
    assert (exchange.error["param"], exchange.error["code"]) == ("model", "model_not_found")
    assert "gpt-9" in exchange.error["message"]


async def test_answer_has_the_name_that_was_asked_for() -> None:
    assert (await completed(FakePool(), model="org/tiny", max_tokens=0)).json["model"] == "org/tiny"


@pytest.mark.parametrize(
    ("prompt", "bad_id", "position"),
    [
        ([1, VOCAB_SIZE, 2], VOCAB_SIZE, 1),
        ([-1], -1, 0),
        ([[1], [2, 3, 2**31]], 2**31, 2),
        ([0, 2**63], 2**63, 1),
        ([2**70], 2**70, 0),
    ],
)
async def test_first_id_outside_the_vocabulary_is_named(
    prompt: Any, bad_id: int, position: int
) -> None:
    exchange = await refused(prompt=prompt)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "invalid_token_id")
    assert f"token id {bad_id} at position {position} " in exchange.error["message"]


@pytest.mark.parametrize("prompt", [[], [[]], [[1], []]])
async def test_empty_list_of_prompts_or_ids_is_refused(prompt: Any) -> None:
    exchange = await refused(prompt=prompt)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "empty_array")


async def test_empty_prompt_is_refused_when_nothing_can_begin_it() -> None:
    exchange = await refused(tokenizer=ByteTokenizer(bos_token_id=None), prompt="")
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "empty_string")


@pytest.mark.parametrize(
    ("num_prompt_tokens", "max_tokens", "param"),
    [
        (985, None, "max_tokens"),
        (1, 1000, "max_tokens"),
        (1001, 0, "prompt"),
        (1, 2**70, "max_tokens"),
    ],
)
async def test_what_exceeds_the_context_is_refused_with_the_numbers(
    num_prompt_tokens: int, max_tokens: int | None, param: str
) -> None:
    exchange = await refused(prompt=[1] * num_prompt_tokens, max_tokens=max_tokens)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == (param, "context_length_exceeded")
    output = 16 if max_tokens is None else max_tokens
    assert exchange.error["message"].startswith(
        f"This model's maximum context length is 1000 tokens, however you requested "
        f"{num_prompt_tokens + output} tokens ({num_prompt_tokens} in your prompt; {output} for"
    )


@pytest.mark.parametrize("suffix", ["", "x" * 5])
async def test_text_that_cannot_fit_is_refused_before_it_is_tokenised(suffix: str) -> None:
    class NoTokenizer(ByteTokenizer):
        def encode(
            self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True
        ) -> list[int]:
            raise AssertionError("it takes seconds")

    prompt = "a" * (1001 - len(suffix))
    exchange = await refused(tokenizer=NoTokenizer(), prompt=["a", prompt], suffix=suffix)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == (
        "prompt",
        "context_length_exceeded",
    )
    assert "at least 1017 tokens (at least 1001 in your prompt; 16" in exchange.error["message"]


async def test_what_fills_the_context_exactly_is_served() -> None:
    pool = FakePool(script=(b"x", LENGTH), kv_capacity_tokens=1000)
    assert (await completed(pool, prompt=[1] * 984)).status == 200


async def test_what_no_group_can_hold_is_refused() -> None:
    """A request larger than the KV cache but shorter than the context would wait for ever."""
    exchange = await refused(FakePool(kv_capacity_tokens=64), prompt=[1] * 60, max_tokens=5)
    assert exchange.status == 400
    assert exchange.error["code"] == "context_length_exceeded"
    assert "64 tokens" in exchange.error["message"]
    assert (
        await completed(
            FakePool(kv_capacity_tokens=64, script=(b"x", LENGTH)), prompt=[1] * 60, max_tokens=4
        )
    ).status == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 65, "prompt": ["a", "b"]}, "n"),
        ({"prompt": [[1]] * 129}, "prompt"),
        ({"n": 129}, "n"),
    ],
)
async def test_more_choices_than_the_cap_are_refused(fields: dict[str, Any], param: str) -> None:
    exchange = await refused(**fields)
    assert exchange.status == 400
    assert exchange.error["param"] == param
    assert "128" in exchange.error["message"]


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
