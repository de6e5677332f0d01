"""/generate, /generate_stream, /embed, /classify and what Takeoff's clients ask of readers."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from backend.wire.messages import FinishReason
from backend.wire.sampling import Grammar, SamplingParams
from gateway.app import create_app
from gateway.pool.replica_connection import GroupStatus
from gateway.pool.status import PoolStatus
from gateway.sandbox.grammar_validator import GrammarValidator
from tests.gateway.endpoints.pooled_requests import RERANK, score_of, vector_of
from tests.gateway.endpoints.pooled_requests import ask as ask_pooled
from tests.gateway.fake_template import FakeTemplate, fake_templates
from tests.gateway.fakes import EOS, Exchange, FakePool, make_service

LENGTH = FinishReason.LENGTH
# What takeoff-client sends where its caller says nothing.
NULLS = dict.fromkeys(
    "sampling_temperature sampling_topp sampling_topk repetition_penalty no_repeat_ngram_size "
    "max_new_tokens min_new_tokens regex_string json_schema constrained_decoding_backend "
    "return_metadata prompt_max_tokens".split()
)
GROUPS = [
    GroupStatus(0, True, 1, 2, 50, 100, 0.0, "primary"),
    GroupStatus(1, False, 0, 0, 0, 0, 0.0, "batch"),
]


class Validator:
    """Takes every grammar as it is."""

    async def validate(self, grammar: Grammar) -> Grammar:
        return grammar

    async def validate_schema(self, grammar: Grammar) -> tuple[Grammar, list[str]]:
        return grammar, []


def playing(text: bytes) -> FakePool:
    pool = FakePool(script=(text, LENGTH))
    pool.state = PoolStatus(ready=True, draining=False, stalled=False, groups=GROUPS)
    pool.names.set({0: "primary", 1: "batch"})
    return pool


async def post(
    path: str, pool: FakePool | None = None, chat: FakeTemplate | None = None, **fields: Any
) -> Exchange:
    """Return the finished exchange of one request."""
    validator = cast(GrammarValidator, Validator())
    service = make_service(pool or playing(b"ok"), grammar_validator=validator)
    templates = fake_templates(default=chat or FakeTemplate())
    app = create_app(replace(service, chat_templates=templates))
    return await Exchange(app, "POST", path, msgspec.json.encode(fields)).finished()


async def get(path: str) -> Exchange:
    return await Exchange(create_app(make_service(playing(b""))), "GET", path).finished()


async def answer(path: str, pool: FakePool | None = None, **fields: Any) -> Any:
    exchange = await post(path, pool, **fields)
    assert exchange.status == 200, exchange.body
    return exchange.json


async def params_of(**fields: Any) -> SamplingParams:
    pool = playing(b"ok")
    await answer("/generate", pool, text="hi", **fields)
    return pool.submitted[0].params


async def refused(path: str, **fields: Any) -> tuple[int, str]:
    pool = playing(b"ok")
    exchange = await post(path, pool, **fields)
    assert not pool.submitted
    assert exchange.json.keys() == {"error"}
    return exchange.status, exchange.json["error"]


async def test_text_is_answered_with_text_and_texts_with_texts() -> None:
    assert await answer("/generate", playing(b"hey"), text="hi") == {"text": "hey"}
    assert await answer("/generate", playing(b"hey"), text=["hi", "ho"]) == {"text": ["hey", "hey"]}
    assert await answer("/generate", playing(b"hey"), text=["hi"]) == {"text": ["hey"]}
    counted = await answer("/generate", playing(b"hey"), text="hi", return_metadata=True)
    assert counted["metadata"] == {"prompt_tokens": 2, "generated_tokens": 3}


async def test_nulls_mean_what_takeoff_does_by_default() -> None:
    params = await params_of(**NULLS, consumer_group="primary")
    assert (params.temperature, params.top_k, params.max_tokens) == (0, 1, 128)
    assert (params.top_p, params.repetition_penalty, params.no_repeat_ngram_size) == (1, 1, 0)
    assert params.grammar is None


async def test_sampling_of_the_articles_benchmark_reaches_the_engine() -> None:
    params = await params_of(
        sampling_temperature=1,
        sampling_topp=0.9,
        sampling_topk=20,
        repetition_penalty=2,
        no_repeat_ngram_size=5,
        max_new_tokens=256,
        min_new_tokens=256,
    )
    assert (params.temperature, params.top_p, params.top_k) == (1, 0.9, 20)
    assert (params.repetition_penalty, params.no_repeat_ngram_size) == (2, 5)
    assert (params.min_tokens, params.max_tokens) == (256, 256)


async def test_pattern_goes_before_schema() -> None:
    schema = {"type": "object"}
    both = await params_of(
        regex_string="a+", json_schema=schema, constrained_decoding_backend="outlines"
    )
    assert both.grammar is not None
    assert (both.grammar.kind, both.grammar.text) == ("regex", "a+")
    for written in (schema, '{"type": "object"}'):
        params = await params_of(json_schema=written)
        assert params.grammar == Grammar("json_schema", '{"type":"object"}')


async def test_prompts_keep_their_last_tokens() -> None:
    pool = playing(b"ok")
    await answer("/generate", pool, text="hello", prompt_max_tokens=2)
    assert bytes(pool.submitted[0].prompt_ids) == b"lo"


async def test_template_is_used_where_it_is_asked_for() -> None:
    template, pool = FakeTemplate(), playing(b"ok")
    await post("/generate", pool, template, text=["hi", "ho"], use_chat_template=True)
    assert [chat.messages for chat in template.seen] == [
        [{"role": "user", "content": "hi"}],
        [{"role": "user", "content": "ho"}],
    ]
    assert [bytes(each.prompt_ids) for each in pool.submitted.values()] == [b"hi", b"ho"]
    await post("/generate", pool, template, text="hi", use_chat_template=False)
    assert len(template.seen) == 2


async def test_too_many_texts_are_refused_before_any_is_rendered() -> None:
    """The template was asked for each of what may be millions in one body."""
    template = FakeTemplate()
    exchange = await post("/generate", None, template, text=["hi"] * 129, use_chat_template=True)
    assert exchange.status == 400 and "129 prompts" in exchange.json["error"]
    assert template.seen == []


async def test_stream_is_events_whose_data_is_text() -> None:
    exchange = await post("/generate_stream", playing(b" a\n\r\nb"), text="hi", **NULLS)
    assert exchange.headers["content-type"].startswith("text/event-stream")
    events = exchange.body.split(b"\n\n")
    assert events == [
        b"data:  ",
        b"data: a",
        b"data: \ndata: ",
        b"data: \ndata: ",
        b"data: \ndata: ",
        b"data: b",
        b"",
    ]


async def test_piece_with_line_breaks_is_one_event() -> None:
    pool = FakePool()
    asked = post("/generate_stream", pool, text="hi")
    task = asyncio.create_task(asked)
    while not pool.submitted:
        await asyncio.sleep(0)
    pool.send(0, b"a\r\nb")
    pool.send(0, b"", LENGTH)
    assert (await task).body == b"data: a\ndata: b\n\n"


async def test_events_of_several_prompts_tell_whose_they_are() -> None:
    exchange = await post(
        "/generate_stream", playing(b"ab"), text=["hi", "ho"], return_metadata=True
    )
    *texts, metadata, last = exchange.body.split(b"\n\n")
    assert sorted(texts) == [b"id: %d\ndata: %b" % (n, t) for n in (0, 1) for t in (b"a", b"b")]
    assert metadata == b'event: metadata\ndata: {"prompt_tokens":4,"generated_tokens":4}'
    assert last == b""


async def test_broken_stream_ends_with_an_event_of_its_own() -> None:
    pool = FakePool(script=(b"", FinishReason.ERROR))
    exchange = await post("/generate_stream", pool, text="hi")
    assert exchange.body.startswith(b'event: error\ndata: {"error":')


async def test_group_is_chosen_by_name_and_unknown_ones_are_named() -> None:
    for name in ("batch", "", None, "primary"):
        pool = playing(b"ok")
        await answer("/generate", pool, text="hi", consumer_group=name)
        assert pool.submitted[0].group == (name or "")
    status, words = await refused("/generate", text="hi", consumer_group="bach")
    assert status == 400
    assert words == "There is no consumer group 'bach'; there are: 'primary', 'batch'."


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 422, "'text'"),
        ({"text": 5}, 422, "'text'"),
        ({"text": []}, 400, "'text'"),
        ({"text": "hi", "sampling_temperature": "hot"}, 422, "'sampling_temperature'"),
        ({"text": "hi", "sampling_temperature": 9}, 400, "'sampling_temperature'"),
        ({"text": "hi", "max_new_tokens": 5000}, 400, "5002 tokens"),
        ({"text": "hi", "min_new_tokens": 9, "max_new_tokens": 8}, 400, "'min_new_tokens'"),
        ({"text": "hi", "min_new_tokens": 129}, 400, "128 tokens that 'max_new_tokens' allows"),
        ({"text": "hi", "lora_id": "x"}, 400, "no adapter 'x'"),
        ({"text": "hi", "constrained_decoding_backend": "x"}, 400, "constrained_decoding_backend"),
        ({"text": "hi", "json_schema": "{"}, 400, "'json_schema'"),
        ({"text": "hi", "json_schema": 7}, 422, "'json_schema'"),
        ({"text": ["x"] * 129}, 400, "129 prompts"),
    ],
)
async def test_what_cannot_be_is_told_in_takeoffs_words(
    fields: dict[str, Any], status: int, words: str
) -> None:
    told = await refused("/generate", **fields)
    assert told[0] == status and words in told[1], told


async def test_broken_json_and_other_paths_have_its_form_of_errors() -> None:
    app = create_app(make_service(playing(b"")))
    exchange = await Exchange(app, "POST", "/generate_stream", b"{").finished()
    assert exchange.status == 400 and "JSON" in exchange.json["error"]
    exchange = await Exchange(app, "PUT", "/tokenize/0").finished()
    assert exchange.status == 405 and isinstance(exchange.json["error"], str)
    exchange = await Exchange(app, "PUT", "/tokenize").finished()
    assert "message" in exchange.json["error"], "that path is vLLM's"


async def test_vector_of_one_text_is_not_in_a_list() -> None:
    one = await ask_pooled("/embed", text="abc", model=None).finished()
    assert one.json == {"result": pytest.approx(vector_of([1, 2, 3]))}
    two = await ask_pooled("/embed", text=["ab", "abc"], consumer_group="primary").finished()
    assert [len(vector) for vector in two.json["result"]] == [3, 3]


async def test_texts_and_pairs_are_scored() -> None:
    asked: list[str | list[str]] = ["abc", ["abcde"], ["a", "b"]]
    exchange = await ask_pooled(
        "/classify", pooling=RERANK, text=asked, consumer_group="classify"
    ).finished()
    scores = [score_of([0] * 3), score_of([0] * 5), score_of([0] * 4)]
    assert exchange.json["result"] == [pytest.approx(each) for each in scores]
    exchange = await ask_pooled("/classify", pooling=RERANK, text=[["a", "b", "c"]]).finished()
    assert exchange.status == 400 and "3 parts" in exchange.json["error"]


@pytest.mark.parametrize(
    ("path", "pooling", "words"),
    [("/embed", None, "/generate"), ("/classify", None, "/generate"), ("/generate", RERANK, "/cl")],
)
async def test_model_of_another_task_says_what_it_does(path: str, pooling: Any, words: str) -> None:
    exchange = await ask_pooled(path, pooling=pooling, text="hi").finished()
    assert exchange.status == 400 and f"POST {words}" in exchange.json["error"]


async def test_empty_texts_are_refused_by_their_number() -> None:
    exchange = await ask_pooled("/embed", text=["a", ""]).finished()
    assert (exchange.status, exchange.json["error"]) == (
        422,
        "Missing required parameter: 'text[1]'.",
    )


async def test_status_and_config_tell_of_readers() -> None:
    status = (await get("/status")).json
    assert status["live_readers"].keys() == {"0"}, "the other does not take work"
    reader = status["live_readers"]["0"]
    assert (reader["reader_id"], reader["consumer_group"]) == ("0", "primary")
    assert (reader["model_name"], reader["max_sequence_length"]) == ("tiny", 1000)
    assert (await get("/config")).json == reader
    assert (await get("/config/batch")).json["reader_id"] == "1"
    exchange = await get("/config/7")
    assert exchange.status == 404
    assert exchange.json["error"] == "There is no reader '7'; there are: '0', '1'."
    assert (await get("/healthz")).status == 200


async def test_tokens_go_there_and_back() -> None:
    told = await answer("/tokenize/0", text="hi", use_chat_template=False)
    assert told == {"tokens": ["h", "i"], "tokens_count": 2}
    back = await answer("/detokenize/primary", tokens=[*told["tokens"], "</s>"])
    assert back == {"text": "hi"}
    shown = await answer("/detokenize/0", tokens=[104, EOS - 1], skip_special_tokens=False)
    assert shown == {"text": "h<s>"}
    template = FakeTemplate()
    exchange = await post("/tokenize/0", None, template, text="hi", use_chat_template=True)
    assert exchange.json["tokens_count"] == 2 and template.seen[0].add_generation_prompt
    status, words = await refused("/detokenize/0", tokens=["hi"])
    assert status == 400 and "'tokens[0]'" in words
    assert (await refused("/detokenize/0", tokens=[900]))[0] == 400
    assert (await refused("/tokenize/9", text="x"))[0] == 404


async def test_conversations_are_put_through_the_template() -> None:
    template = FakeTemplate()
    inputs = [[{"role": "user", "content": "hi"}], [{"role": "user", "content": "ho"}]]
    exchange = await post("/chat_template/0", None, template, inputs=inputs)
    assert exchange.json == {"messages": ["hi", "ho"]}
    assert not any(chat.add_generation_prompt for chat in template.seen)
    await post("/chat_template/0", None, template, inputs=inputs, add_generation_prompt=True)
    assert template.seen[-1].add_generation_prompt
    assert (await refused("/chat_template/0", inputs=[]))[0] == 400
