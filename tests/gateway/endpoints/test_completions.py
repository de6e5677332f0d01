"""What completions look like, whole and streamed, and how prompts become tokens."""

import asyncio
import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import create_app
from tests.gateway.completion_requests import LENGTH, STOP, completed, text_of_choices
from tests.gateway.fakes import (
    BOS,
    VOCAB_SIZE,
    ByteTokenizer,
    FakePool,
    app_of,
    complete,
    make_service,
    settle,
)


async def test_whole_answer_has_openai_s_shape() -> None:
    pool = FakePool(script=(b"ok", LENGTH))
    exchange = await completed(pool, max_tokens=2)
    assert exchange.status == 200
    assert exchange.headers["content-type"] == "application/json"
    answer = exchange.json
    assert answer.pop("id").startswith("cmpl-")
    assert abs(answer.pop("created") - 1.7e9) < 1e10
    assert answer == {
        "object": "text_completion",
        "model": "tiny",
        "system_fingerprint": "fp_test",
        "choices": [
            {
                "text": "ok",
                "index": 0,
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 2,
            "total_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


async def test_stream_is_chunks_and_then_done() -> None:
    end_of_sequence = b"."  # whatever token it is, it is no text
    exchange = await completed(FakePool(script=(b"ok" + end_of_sequence, STOP)), stream=True)
    *data, done = exchange.events
    assert done == b"[DONE]"
    assert exchange.is_complete
    first = msgspec.json.decode(data[0])
    head = f'{{"id":"{first["id"]}","object":"text_completion","created":{first["created"]},'
    assert data == [
        (
            head + '"model":"tiny","system_fingerprint":"fp_test","choices":'
            f'[{{"text":"{text}","index":0,"logprobs":null,"finish_reason":{reason}}}]}}'
        ).encode()
        for text, reason in [("o", "null"), ("k", "null"), ("", '"stop","stop_reason":null')]
    ]
    assert exchange.body.count(b"data: ") == 4
    assert b"\r" not in exchange.body


async def test_usage_is_null_until_the_chunk_that_has_it() -> None:
    exchange = await completed(
        FakePool(script=(b"ok", LENGTH)), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = exchange.chunks
    assert [chunk["usage"] for chunk in chunks] == [None, None]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 4
    assert last["id"] == chunks[0]["id"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
async def test_usage_is_left_out_of_a_stream_that_did_not_ask(
    options: dict[str, Any] | None,
) -> None:
    exchange = await completed(
        FakePool(script=(b"ok", LENGTH)), stream=True, stream_options=options
    )
    assert all("usage" not in chunk for chunk in exchange.chunks)


async def test_choices_are_numbered_prompt_by_prompt() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), prompt=["a", "b"], n=2, seed=5)
    await settle()
    asked = [(bytes(s.prompt_ids), s.params.choice) for s in pool.submitted.values()]
    assert asked == [(b"a", 0), (b"a", 1), (b"b", 0), (b"b", 1)]
    for seq_id in (3, 1, 0, 2):
        pool.play(seq_id, b"%d" % seq_id, LENGTH)
    await exchange.finished()
    choices = exchange.json["choices"]
    assert [(c["index"], c["text"]) for c in choices] == [
        (0, "0"),
        (1, "1"),
        (2, "2"),
        (3, "3"),
    ]
    assert exchange.json["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(
    ("prompt", "token_ids"),
    [
        ("hi", [list(b"hi")]),
        (["a", "bc"], [[97], [98, 99]]),
        ([5, 6], [[5, 6]]),
        ([[5], [6, VOCAB_SIZE - 1]], [[5], [6, VOCAB_SIZE - 1]]),
        ("", [[BOS]]),
    ],
)
async def test_every_form_of_prompt_becomes_token_ids(
    prompt: Any, token_ids: list[list[int]]
) -> None:
    pool = FakePool(script=(b"x", LENGTH))
    assert (await completed(pool, prompt=prompt)).status == 200
    assert [s.prompt_ids for s in pool.submitted.values()] == token_ids


async def test_long_prompt_is_tokenised_in_a_thread() -> None:
    names: list[str] = []

    class Noting(ByteTokenizer):
        def encode(self, text: str, **options: Any) -> list[int]:
            names.append(threading.current_thread().name)
            return super().encode(text)[:10]

    pool = FakePool(script=(b"x", LENGTH), max_model_len=10_000)
    app = create_app(make_service(pool, Noting()))
    await complete(app, prompt="x" * 2000).finished()
    await complete(app, prompt="x" * 2001).finished()
    await complete(app, prompt=["x" * 1500] * 2).finished()
    await asyncio.get_running_loop().shutdown_default_executor()
    main = threading.main_thread().name
    assert [name == main for name in names] == [True, False, False, False]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("echo", "prompt", "text"),
    [(False, "hi", ""), (True, "hi", "hi"), (True, [104, 105], "hi"), (True, "", "")],
)
async def test_no_output_tokens_is_a_finished_answer(
    stream: bool, echo: bool, prompt: Any, text: str
) -> None:
    pool = FakePool()
    exchange = await completed(pool, prompt=prompt, max_tokens=0, echo=echo, stream=stream)
    assert pool.submitted == {}
    answers = exchange.chunks if stream else [exchange.json]
    choices = [choice for answer in answers for choice in answer["choices"]]
    assert "".join(choice["text"] for choice in choices) == text
    assert choices[-1]["finish_reason"] == "length"


async def test_cached_tokens_are_reported() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool))
    await settle()
    pool.send(0, b"x", num_cached_tokens=1)
    pool.send(0, b"", STOP)
    await exchange.finished()
    assert exchange.json["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}


@given(
    st.one_of(st.binary(max_size=20), st.text("ab\né😀", max_size=10).map(str.encode)),
    st.lists(st.text("ab\né", min_size=1, max_size=3), max_size=4),
    st.booleans(),
)
async def test_streamed_and_whole_text_are_the_same(
    tokens: bytes, stop: list[str], echo: bool
) -> None:
    fields = {"stop": stop or None, "echo": echo, "n": 2, "max_tokens": 50}
    whole = await completed(FakePool(script=(tokens, LENGTH)), **fields)
    streamed = await completed(
        FakePool(script=(tokens, LENGTH)),
        stream=True,
        stream_options={"include_usage": True},
        **fields,
    )
    assert text_of_choices(streamed.chunks) == text_of_choices([whole.json])
    assert streamed.chunks[-1]["usage"] == whole.json["usage"]
