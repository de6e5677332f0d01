"""Requests that fill a context exactly, and those that exceed it, over HTTP."""

from typing import Any

import pytest

from tests.gateway.completion_requests import (
    LENGTH,
    completed,
    refused,
    scripted,
    text_of_choices,
)
from tests.gateway.fakes import (
    ByteTokenizer,
    FakePool,
)


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
        def encode(self, text: str, **options: Any) -> list[int]:
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
    pool = FakePool(script=(b"x", LENGTH), kv_sequence_tokens=1000)
    assert (await completed(pool, prompt=[1] * 984)).status == 200


async def test_what_no_group_can_hold_is_refused() -> None:
    """A request larger than the KV cache but shorter than the context would wait for ever."""
    exchange = await refused(FakePool(kv_sequence_tokens=64), prompt=[1] * 60, max_tokens=5)
    assert exchange.status == 400
    assert exchange.error["code"] == "context_length_exceeded"
    assert "is 64 tokens here" in exchange.error["message"]
    assert "the model takes 1000" in exchange.error["message"]
    pool = FakePool(kv_sequence_tokens=64, script=(b"x", LENGTH))
    assert (await completed(pool, prompt=[1] * 60, max_tokens=4)).status == 200


@pytest.mark.parametrize(
    ("keep", "max_tokens", "kept"), [(3, 1, b"efg"), (7, 1, b"abcdefg"), (-1, 996, b"defg")]
)
async def test_truncated_prompt_keeps_its_end(keep: int, max_tokens: int, kept: bytes) -> None:
    pool = scripted(b"x")
    fields: dict[str, Any] = {"truncate_prompt_tokens": keep, "max_tokens": max_tokens}
    answer = (await completed(pool, prompt="abcdefg", echo=True, **fields)).json
    assert bytes(pool.submitted[0].prompt_ids) == kept
    assert text_of_choices([answer]) == {0: (kept.decode() + "x", "length")}
