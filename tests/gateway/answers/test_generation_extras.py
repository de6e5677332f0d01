"""What completions take beyond OpenAI's fields, and what their headers tell."""

from typing import Any

import msgspec
import pytest

from gateway.answers.delivery import server_timing
from gateway.app import create_app
from gateway.telemetry.exchange import Timings
from tests.gateway.answers.generation_requests import (
    LENGTH,
    STOP,
    completed,
    scripted,
    text_of_choices,
)
from tests.gateway.fakes import (
    BOS,
    ByteTokenizer,
    Exchange,
    FakePool,
    app_of,
    complete,
    make_service,
    settle,
)


@pytest.mark.parametrize(("shows_end", "text"), [(False, "a"), (True, "a!")])
async def test_stop_token_is_text_only_when_asked_for(shows_end: bool, text: str) -> None:
    pool = FakePool()

    exchange = complete(app_of(pool), stop_token_ids=[33], include_stop_str_in_output=shows_end)
    await settle()
    pool.send(0, b"a!", STOP, stop_token_id=33)
    answer = (await exchange.finished()).json
    assert (answer["choices"][0]["text"], answer["choices"][0]["stop_reason"]) == (text, 33)
    assert answer["usage"]["completion_tokens"] == 2


async def test_stop_string_is_the_stop_reason() -> None:
    answer = (await completed(scripted(b"abcd"), stop=["zz", "bc"])).json
    assert (answer["choices"][0]["text"], answer["choices"][0]["stop_reason"]) == ("a", "bc")


async def test_no_stop_string_counts_in_the_first_min_tokens() -> None:
    answer = (await completed(scripted(b"xxaxb"), stop="x", min_tokens=2)).json
    assert text_of_choices([answer]) == {0: ("xxa", "stop")}


async def test_special_tokens_are_text_when_they_are_not_skipped() -> None:
    pool = FakePool()

    exchange = complete(app_of(pool), skip_special_tokens=False)
    await settle()
    pool.send(0, [97, BOS, 98], LENGTH)
    assert text_of_choices([(await exchange.finished()).json]) == {0: ("a<s>b", "length")}


@pytest.mark.parametrize(
    ("keep", "max_tokens", "kept"), [(3, 1, b"efg"), (7, 1, b"abcdefg"), (-1, 996, b"defg")]
)
async def test_truncated_prompt_keeps_its_end(keep: int, max_tokens: int, kept: bytes) -> None:
    pool = scripted(b"x")
    fields: dict[str, Any] = {"truncate_prompt_tokens": keep, "max_tokens": max_tokens}
    answer = (await completed(pool, prompt="abcdefg", echo=True, **fields)).json
    assert bytes(pool.submitted[0].prompt_ids) == kept
    assert text_of_choices([answer]) == {0: (kept.decode() + "x", "length")}


async def test_prompt_goes_without_the_model_s_own_prefix_when_asked() -> None:
    for add_special_tokens, prompt_ids in [(True, [BOS, 104, 105]), (False, [104, 105])]:
        pool = scripted(b"x")

        async def run(pool: FakePool = pool, add: bool = add_special_tokens) -> None:
            app = create_app(make_service(pool, ByteTokenizer(prefix_ids=[BOS])))
            await complete(app, add_special_tokens=add).finished()

        await run()
        assert pool.submitted[0].prompt_ids == prompt_ids


async def test_suffix_stands_between_the_marks_of_a_fill_in_model() -> None:
    pool = scripted(b"x")
    marks = {"<fim_prefix>": 1, "<fim_suffix>": 2, "<fim_middle>": 3}

    app = create_app(make_service(pool, ByteTokenizer(marks=marks)))
    assert (await complete(app, suffix="yo").finished()).status == 200
    assert pool.submitted[0].prompt_ids == [1, 104, 105, 2, 121, 111, 3]


async def test_priority_and_cache_salt_reach_the_pool() -> None:
    pool = scripted(b"x")
    await completed(pool, priority=-3, cache_salt="s")
    assert (pool.submitted[0].priority, pool.submitted[0].cache_salt) == (-3, ":s")


async def test_every_chunk_has_usage_when_asked() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    exchange = await completed(scripted(b"ok"), stream=True, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in exchange.chunks]
    assert counts == [1, 2, 2]


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


async def test_server_timing_says_where_the_time_went() -> None:
    timing = (await completed(scripted(b"ok"))).headers["server-timing"]
    names = [part.split(";dur=")[0] for part in timing.split(", ")]
    assert names == ["prefill", "decode"]
    assert all(float(part.split(";dur=")[1]) >= 0 for part in timing.split(", "))
    assert server_timing(Timings(1.0, 1.5, 1.75, 3.75)) == {
        "server-timing": "queue;dur=500.0, prefill;dur=250.0, decode;dur=2000.0"
    }


async def test_head_of_a_stream_tells_the_queue_if_it_is_over() -> None:
    async def head(*, is_sent: bool) -> dict[str, str]:
        pool = FakePool(is_sent_at_once=is_sent)
        exchange = complete(app_of(pool), stream=True)
        await settle()
        headers = exchange.headers
        pool.play(0, b"x", LENGTH)
        await exchange.finished()
        return headers

    assert (await head(is_sent=True))["server-timing"].startswith("queue;dur=")
    assert "server-timing" not in (await head(is_sent=False))
