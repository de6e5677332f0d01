"""Vectors of texts in every form, in OpenAI's shape, and what is refused before anything runs."""

import base64
from array import array
from typing import Any

import pytest

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.pool.status import PoolStatus
from gateway.text.embedding_prompts import EmbeddingPrompts
from tests.gateway.endpoints.pooled_requests import EMBED, embed, rerank, vector_of
from tests.gateway.fakes import (
    BOS,
    ByteTokenizer,
    FakePool,
    complete,
    make_service,
    settle,
)


async def test_answer_has_openai_s_shape_in_the_order_of_the_texts() -> None:
    pool = FakePool(vector_of=vector_of)
    exchange = await embed(pool, input=["abc", "no"]).finished()
    assert exchange.status == 200
    answer = exchange.json
    for each in answer["data"]:
        each["embedding"] = [round(number, 6) for number in each["embedding"]]
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.0, 0.6, 0.8]},
            {"object": "embedding", "index": 1, "embedding": [0.6, 0.0, 0.8]},
        ],
        "model": "tiny",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    # No tokens are added to a text: it may be as long as the model takes.
    assert all(each.params.max_tokens == 0 for each in pool.submitted.values())


async def test_order_is_that_of_the_texts_whichever_is_first() -> None:
    pool = FakePool()
    exchange = embed(pool, input=["abc", "no"])
    await settle()
    pool.vector_of = vector_of
    for seq_id in (1, 0):
        pool.give_vector(seq_id)
    answer = (await exchange.finished()).json
    assert [round(each["embedding"][0], 3) for each in answer["data"]] == [0.0, 0.6]


@pytest.mark.parametrize(
    ("given", "token_ids"),
    [
        ("hi", [[104, 105]]),
        (["hi", "a"], [[104, 105], [97]]),
        ([104, 105], [[104, 105]]),
        ([[1, 2, 3], [4]], [[1, 2, 3], [4]]),
    ],
)
async def test_forms_of_input(given: Any, token_ids: list[list[int]]) -> None:
    pool = FakePool(vector_of=vector_of)
    assert (await embed(pool, input=given).finished()).status == 200
    assert [each.prompt_ids for each in pool.submitted.values()] == token_ids


async def test_base64_is_the_float32_numbers() -> None:
    exchange = await embed(input="abc", encoding_format="base64").finished()
    [vector] = [each["embedding"] for each in exchange.json["data"]]
    assert base64.b64decode(vector) == array("f", [0.0, 0.6, 0.8]).tobytes()


async def test_fewer_dimensions_are_made_as_long_again() -> None:
    exchange = await embed(input="ab", dimensions=1).finished()
    assert exchange.json["data"][0]["embedding"] == [1.0]
    exchange = await embed(input="abc", dimensions=3).finished()
    assert len(exchange.json["data"][0]["embedding"]) == 3


async def test_model_s_prompts_go_in_front() -> None:
    prompts = EmbeddingPrompts({"query": "q: ", "passage": "p: "}, "passage")
    for name, text in ((None, "p: hi"), ("query", "q: hi")):
        pool = FakePool(vector_of=vector_of)
        await embed(pool, input="hi", prompt_name=name, prompts=prompts).finished()
        assert pool.submitted[0].prompt_ids == list(text.encode())
    exchange = await embed(input="hi", prompt_name="other", prompts=prompts).finished()
    assert exchange.error["message"] == "The model has no prompt 'other': query, passage."


async def test_special_tokens_spelled_in_a_text_are_text() -> None:
    pool = FakePool(vector_of=vector_of)
    await embed(pool, input="<s>", tokenizer=ByteTokenizer(marks={"<s>": BOS})).finished()
    assert pool.submitted[0].prompt_ids == list(b"<s>")


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": ""}, "input", "Invalid 'input': the string is empty."),
        ({"input": []}, "input", "Invalid 'input': the array is empty."),
        ({"input": ["a", ""]}, "input", "Invalid 'input[1]': the string is empty."),
        ({"input": [[1], []]}, "input", "Invalid 'input[1]': the array is empty."),
        ({"input": ["a", 1]}, "input", "Invalid type for 'input': expected an array of strings"),
        ({"input": [300]}, "input", "Invalid 'input': token id 300 at position 0 is not in the"),
        ({"input": ["a"] * 2049}, "input", "'input' has 2049 entries; at most 2048 are answered"),
        ({"input": "a", "dimensions": 4}, "dimensions", "vectors have 3 numbers, however you ask"),
        ({"input": "a", "dimensions": 0}, "dimensions", "Expected a value >= 1"),
        ({"input": "a" * 1001}, "input", "takes 1000 tokens of a text at most, however 'input[0]'"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "'int8' is none of the"),
        ({"input": "a", "truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "at least one"),
        ({}, "input", "Missing required parameter: 'input'."),
    ],
)
async def test_bad_input_is_refused(fields: dict[str, Any], param: str, message: str) -> None:
    pool = FakePool()
    exchange = await embed(pool, **fields).finished()
    assert exchange.status == 400
    assert exchange.error["param"] == param
    assert message in exchange.error["message"]
    assert not pool.submitted


@pytest.mark.parametrize(("keep", "length"), [(5, 5), (-1, 1000), (5000, 1000)])
async def test_text_is_cut_if_that_is_wanted(keep: int, length: int) -> None:
    for text in ("a" * 1001, [7] * 1001):
        pool = FakePool(vector_of=vector_of)
        await embed(pool, input=text, truncate_prompt_tokens=keep).finished()
        assert len(pool.submitted[0].prompt_ids) == length


async def test_length_is_told_with_both_numbers() -> None:
    exchange = await embed(input=["a", "ä" * 600]).finished()
    assert exchange.error["code"] == "context_length_exceeded"
    assert "takes 1000 tokens" in exchange.error["message"]
    assert "'input[1]' has 1200" in exchange.error["message"]


async def test_one_failure_ends_the_request_and_aborts_the_rest() -> None:
    pool = FakePool()
    exchange = embed(pool, input=["a", "b"])
    await settle()
    pool.send(0, [], FinishReason.ERROR, error="it failed")
    await exchange.finished()
    assert exchange.status == 500 and exchange.error["message"] == "it failed"
    assert pool.aborted == [1]


async def test_client_that_leaves_is_computed_for_no_more() -> None:
    pool = FakePool()
    exchange = embed(pool, input=["a", "b"])
    await settle()
    exchange.leave()
    await exchange.finished()
    assert pool.running == set()


async def test_deadline_ends_it() -> None:
    pool = FakePool()
    exchange = await embed(pool, input="a", timeout=0.01).finished()
    assert exchange.status == 408
    assert pool.running == set()


async def test_refusals_of_the_pool() -> None:
    assert (await embed(FakePool(is_full=True), input="a").finished()).status == 429
    draining = PoolStatus(ready=True, draining=True, stalled=False, groups=[])
    assert (await embed(FakePool(state=draining), input="a").finished()).status == 503


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_model_that_embeds_makes_no_text(path: str) -> None:
    service = make_service(FakePool(), pooling=EMBED)
    exchange = await complete(create_app(service)).finished()
    assert exchange.status == 400
    assert exchange.error["message"] == "The model 'tiny' makes embeddings: POST /v1/embeddings."
    assert exchange.error["code"] == "wrong_task"


async def test_model_that_makes_text_does_not_embed() -> None:
    exchange = await embed(input="a", pooling=None).finished()
    assert exchange.error["message"] == (
        "The model 'tiny' makes text: POST /v1/completions and /v1/chat/completions."
    )
    exchange = await rerank(query="a", documents=["b"], pooling=EMBED).finished()
    assert exchange.error["code"] == "wrong_task"


async def test_unknown_model_and_fields() -> None:
    assert (await embed(model="other", input="a").finished()).status == 404
    exchange = await embed(input="a", temperature=1).finished()
    assert exchange.headers["x-unisono-ignored-fields"] == "temperature"
