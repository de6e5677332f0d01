import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.wire.messages import FinishReason, SeqOutput, TokenScore
from gateway.app import create_app
from gateway.completion import Timings
from gateway.delivery import server_timing
from gateway.refusals import PoolNotReady, QueueFull
from gateway.replicas import PoolStatus
from tests.gateway.fakes import (
    BOS,
    VOCAB_SIZE,
    ByteTokenizer,
    Exchange,
    FakePool,
    advance,
    app_of,
    complete,
    make_service,
    run_with_manual_clock,
    score_of,
    settle,
)

LENGTH, STOP = FinishReason.LENGTH, FinishReason.STOP
DRAINING = PoolStatus(ready=True, draining=True, stalled=False, groups=[])


def completed(pool: FakePool, **fields: Any) -> Exchange:
    """Run one request to its end; the pool needs a script."""

    async def run() -> Exchange:
        return await complete(app_of(pool), **fields).finished()

    return asyncio.run(run())


def refused(
    pool: FakePool | None = None, tokenizer: ByteTokenizer | None = None, **fields: Any
) -> Exchange:
    """Run a request that must be refused before any sequence is submitted."""
    pool = pool or FakePool()

    async def run() -> Exchange:
        exchange = complete(create_app(make_service(pool, tokenizer)), **fields)
        await exchange.finished()
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return exchange

    exchange = asyncio.run(run())
    assert exchange.is_complete
    assert pool.running == set()
    return exchange


def test_a_whole_answer_has_openai_s_shape() -> None:
    pool = FakePool(script=(b"ok", LENGTH))
    exchange = completed(pool, max_tokens=2)
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


def test_a_stream_is_chunks_and_then_done() -> None:
    end_of_sequence = b"."  # whatever token it is, it is no text
    exchange = completed(FakePool(script=(b"ok" + end_of_sequence, STOP)), stream=True)
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


def test_usage_is_null_until_the_chunk_that_has_it() -> None:
    exchange = completed(
        FakePool(script=(b"ok", LENGTH)), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = exchange.chunks
    assert [chunk["usage"] for chunk in chunks] == [None, None]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 4
    assert last["id"] == chunks[0]["id"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_usage_is_left_out_of_a_stream_that_did_not_ask(options: dict[str, Any] | None) -> None:
    exchange = completed(FakePool(script=(b"ok", LENGTH)), stream=True, stream_options=options)
    assert all("usage" not in chunk for chunk in exchange.chunks)


def test_choices_are_numbered_prompt_by_prompt() -> None:
    pool = FakePool()

    async def run() -> None:
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

    asyncio.run(run())


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
def test_every_form_of_prompt_becomes_token_ids(prompt: Any, token_ids: list[list[int]]) -> None:
    pool = FakePool(script=(b"x", LENGTH))
    assert completed(pool, prompt=prompt).status == 200
    assert [s.prompt_ids for s in pool.submitted.values()] == token_ids


def test_a_long_prompt_is_tokenised_in_a_thread() -> None:
    names: list[str] = []

    class Noting(ByteTokenizer):
        def encode(self, text: str, **options: bool) -> list[int]:
            names.append(threading.current_thread().name)
            return super().encode(text)[:10]

    async def run() -> None:
        pool = FakePool(script=(b"x", LENGTH), max_model_len=10_000)
        app = create_app(make_service(pool, Noting()))
        await complete(app, prompt="x" * 2000).finished()
        await complete(app, prompt="x" * 2001).finished()
        await complete(app, prompt=["x" * 1500] * 2).finished()
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(run())
    main = threading.main_thread().name
    assert [name == main for name in names] == [True, False, False, False]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("echo", "prompt", "text"),
    [(False, "hi", ""), (True, "hi", "hi"), (True, [104, 105], "hi"), (True, "", "")],
)
def test_no_output_tokens_is_a_finished_answer(
    stream: bool, echo: bool, prompt: Any, text: str
) -> None:
    pool = FakePool()
    exchange = completed(pool, prompt=prompt, max_tokens=0, echo=echo, stream=stream)
    assert pool.submitted == {}
    answers = exchange.chunks if stream else [exchange.json]
    choices = [choice for answer in answers for choice in answer["choices"]]
    assert "".join(choice["text"] for choice in choices) == text
    assert choices[-1]["finish_reason"] == "length"


def test_cached_tokens_are_reported() -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool))
        await settle()
        pool.send(0, b"x", num_cached_tokens=1)
        pool.send(0, b"", STOP)
        await exchange.finished()
        assert exchange.json["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}

    asyncio.run(run())


def text_of_choices(answers: Sequence[Any]) -> dict[int, tuple[str, str]]:
    """Return text and finish_reason by index, of one answer or of all chunks of a stream."""
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    for answer in answers:
        for choice in answer["choices"]:
            index = choice["index"]
            assert index not in reasons
            texts[index] = texts.get(index, "") + choice["text"]
            if choice["finish_reason"] is not None:
                reasons[index] = choice["finish_reason"]
    return {index: (texts[index], reasons[index]) for index in texts}


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.binary(max_size=20), st.text("ab\né😀", max_size=10).map(str.encode)),
    st.lists(st.text("ab\né", min_size=1, max_size=3), max_size=4),
    st.booleans(),
)
def test_streamed_and_whole_text_are_the_same(tokens: bytes, stop: list[str], echo: bool) -> None:
    fields = {"stop": stop or None, "echo": echo, "n": 2, "max_tokens": 50}
    whole = completed(FakePool(script=(tokens, LENGTH)), **fields)
    streamed = completed(
        FakePool(script=(tokens, LENGTH)),
        stream=True,
        stream_options={"include_usage": True},
        **fields,
    )
    assert text_of_choices(streamed.chunks) == text_of_choices([whole.json])
    assert streamed.chunks[-1]["usage"] == whole.json["usage"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("num_tokens", [0, 1, 3])
def test_a_client_that_leaves_aborts_exactly_its_own_sequences(
    stream: bool, num_tokens: int
) -> None:
    pool = FakePool()

    async def run() -> None:
        app = app_of(pool)
        other = complete(app, stream=True)
        await settle()
        exchange = complete(app, n=2, prompt=["a", "b"], stream=stream)
        await settle()
        pool.play(1, b"done", LENGTH)
        for _ in range(num_tokens):
            for seq_id in (0, 2, 3, 4):
                pool.send(seq_id, b"x")
            await settle()
        exchange.leave()
        await settle()
        assert exchange.task.done()
        assert sorted(pool.aborted) == [2, 3, 4]
        pool.play(0, b"end", LENGTH)
        await other.finished()
        assert text_of_choices(other.chunks) == {0: ("x" * num_tokens + "end", "length")}
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_a_client_that_left_before_its_sequences_began_aborts_them_too() -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), stream=True)
        exchange.leave()
        await exchange.finished()
        assert pool.running == set()

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_ends_aborts_what_runs(stream: bool) -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), stream=stream, n=2)
        await settle()
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.finished()
        assert pool.aborted == [0, 1]

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
def test_a_reached_stop_string_aborts_the_sequence_at_once(stream: bool) -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), stream=stream, stop="ND")
        await settle()
        pool.send(0, b"END more")
        assert pool.aborted == [0]
        await exchange.finished()
        assert pool.aborted == [0]
        answers = exchange.chunks if stream else [exchange.json]
        assert text_of_choices(answers) == {0: ("E", "stop")}

    asyncio.run(run())


def test_an_engine_failure_before_an_answer_is_a_500() -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), n=2)
        await settle()
        pool.send(0, b"x")
        pool.send(0, b"", FinishReason.ERROR, error="the replica group died")
        await exchange.finished()
        assert exchange.status == 500
        assert exchange.error["message"] == "the replica group died"
        assert exchange.error["code"] == "engine_error"
        assert pool.aborted == [0, 1] or pool.running == set()

    asyncio.run(run())


def test_an_engine_failure_in_a_stream_is_an_error_event_without_done() -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), stream=True)
        await settle()
        pool.send(0, b"x")
        pool.send(0, b"", FinishReason.ERROR, error="the replica group died")
        await exchange.finished()
        chunk, error = exchange.chunks
        assert chunk["choices"][0]["text"] == "x"
        assert error["error"]["message"] == "the replica group died"
        assert set(error["error"]) == {"message", "type", "param", "code"}
        assert b"[DONE]" not in exchange.body
        assert not exchange.is_complete

    asyncio.run(run())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [(PoolNotReady, 503, "not_ready"), (QueueFull, 429, "queue_full")],
)
@pytest.mark.parametrize("refuse_at", [0, 2])
def test_a_refused_submit_is_a_status_and_leaves_nothing_running(
    stream: bool, refusal: Callable[..., Exception], status: int, code: str, refuse_at: int
) -> None:
    error = refusal(2.5)
    pool = FakePool(refusal=error, refuse_at=refuse_at)
    exchange = refused(pool, stream=stream, n=4)
    assert exchange.status == status
    assert exchange.error["code"] == code
    assert exchange.headers["retry-after"] == "3"
    assert exchange.headers["retry-after-ms"] == "2500"
    assert pool.aborted == list(range(refuse_at))


def test_a_draining_server_takes_no_new_work() -> None:
    exchange = refused(FakePool(state=DRAINING))
    assert exchange.status == 503
    assert exchange.error["code"] == "shutting_down"
    assert 1 <= int(exchange.headers["retry-after"]) <= 60


def test_a_draining_server_finishes_what_it_has() -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), stream=True)
        await settle()
        pool.state = DRAINING
        pool.play(0, b"ok", LENGTH)
        await exchange.finished()
        assert exchange.events[-1] == b"[DONE]"

    asyncio.run(run())


def test_an_unknown_model_is_a_404() -> None:
    exchange = refused(model="gpt-9")
    assert exchange.status == 404
    assert (exchange.error["param"], exchange.error["code"]) == ("model", "model_not_found")
    assert "gpt-9" in exchange.error["message"]


def test_the_answer_has_the_name_that_was_asked_for() -> None:
    assert completed(FakePool(), model="org/tiny", max_tokens=0).json["model"] == "org/tiny"


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
def test_the_first_id_outside_the_vocabulary_is_named(
    prompt: Any, bad_id: int, position: int
) -> None:
    exchange = refused(prompt=prompt)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "invalid_token_id")
    assert f"token id {bad_id} at position {position} " in exchange.error["message"]


@pytest.mark.parametrize("prompt", [[], [[]], [[1], []]])
def test_an_empty_list_of_prompts_or_ids_is_refused(prompt: Any) -> None:
    exchange = refused(prompt=prompt)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == ("prompt", "empty_array")


def test_an_empty_prompt_is_refused_when_nothing_can_begin_it() -> None:
    exchange = refused(tokenizer=ByteTokenizer(bos_token_id=None), prompt="")
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
def test_what_exceeds_the_context_is_refused_with_the_numbers(
    num_prompt_tokens: int, max_tokens: int | None, param: str
) -> None:
    exchange = refused(prompt=[1] * num_prompt_tokens, max_tokens=max_tokens)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == (param, "context_length_exceeded")
    output = 16 if max_tokens is None else max_tokens
    assert exchange.error["message"].startswith(
        f"This model's maximum context length is 1000 tokens, however you requested "
        f"{num_prompt_tokens + output} tokens ({num_prompt_tokens} in your prompt; {output} for"
    )


@pytest.mark.parametrize("suffix", ["", "x" * 5])
def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenised(suffix: str) -> None:
    class NoTokenizer(ByteTokenizer):
        def encode(
            self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True
        ) -> list[int]:
            raise AssertionError("it takes seconds")

    prompt = "a" * (1001 - len(suffix))
    exchange = refused(tokenizer=NoTokenizer(), prompt=["a", prompt], suffix=suffix)
    assert exchange.status == 400
    assert (exchange.error["param"], exchange.error["code"]) == (
        "prompt",
        "context_length_exceeded",
    )
    assert "at least 1017 tokens (at least 1001 in your prompt; 16" in exchange.error["message"]


def test_what_fills_the_context_exactly_is_served() -> None:
    pool = FakePool(script=(b"x", LENGTH), kv_capacity_tokens=1000)
    assert completed(pool, prompt=[1] * 984).status == 200


def test_what_no_group_can_hold_is_refused() -> None:
    """A request larger than the KV cache but shorter than the context would wait for ever."""
    exchange = refused(FakePool(kv_capacity_tokens=64), prompt=[1] * 60, max_tokens=5)
    assert exchange.status == 400
    assert exchange.error["code"] == "context_length_exceeded"
    assert "64 tokens" in exchange.error["message"]
    assert (
        completed(
            FakePool(kv_capacity_tokens=64, script=(b"x", LENGTH)), prompt=[1] * 60, max_tokens=4
        ).status
        == 200
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 65, "prompt": ["a", "b"]}, "n"),
        ({"prompt": [[1]] * 129}, "prompt"),
        ({"n": 129}, "n"),
    ],
)
def test_more_choices_than_the_cap_are_refused(fields: dict[str, Any], param: str) -> None:
    exchange = refused(**fields)
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
def test_a_wrong_field_is_a_400_that_names_it(fields: dict[str, Any], param: str) -> None:
    exchange = refused(**fields)
    assert exchange.status == 400
    assert exchange.error["param"] == param
    assert exchange.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": "tiny", "prompt": "\xff"}', b"[" * 10**6, b"\x00"]
)
def test_a_body_that_is_no_request_is_a_400(body: bytes) -> None:
    async def run() -> Exchange:
        return await Exchange(app_of(FakePool()), "POST", "/v1/completions", body).finished()

    exchange = asyncio.run(run())
    assert exchange.status == 400
    assert exchange.error["type"] == "invalid_request_error"


def scripted(text: bytes, finish: FinishReason = LENGTH) -> FakePool:
    return FakePool(script=(text, finish))


def logprobs_of(answers: list[Any], index: int = 0) -> dict[str, list[Any]]:
    """Join the four arrays of one choice over the chunks of a stream, or of a whole answer."""
    joined: dict[str, list[Any]] = {}
    for answer in answers:
        for choice in answer["choices"]:
            if choice["index"] == index and choice["logprobs"]:
                for name, values in choice["logprobs"].items():
                    joined.setdefault(name, []).extend(values)
    return joined


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_four_parallel_arrays(stream: bool) -> None:
    exchange = completed(scripted("aé".encode()), logprobs=1, stream=stream)
    assert logprobs_of(exchange.chunks if stream else [exchange.json]) == {
        "tokens": ["a", "bytes:\\xc3", "bytes:\\xa9"],
        "token_logprobs": [-2.0, -2.0, -2.0],
        "top_logprobs": [
            {"A": -0.5, "a": -2.0},
            {"A": -0.5, "bytes:\\xc3": -2.0},
            {"A": -0.5, "bytes:\\xa9": -2.0},
        ],
        "text_offset": [0, 1, 1],
    }


def test_no_alternatives_leave_the_chosen_token() -> None:
    exchange = completed(scripted(b"a"), logprobs=0)
    assert logprobs_of([exchange.json])["top_logprobs"] == [{"a": -2.0}]


def test_a_chosen_token_that_is_written_like_an_alternative_keeps_its_own_score() -> None:
    exchange = completed(scripted(b"A"), logprobs=2)
    assert logprobs_of([exchange.json])["top_logprobs"] == [{"A": -2.0, "B": -1.0}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 2])
@pytest.mark.parametrize("prefix_ids", [(), (BOS,)])
def test_echo_with_logprobs_scores_the_prompt(
    stream: bool, max_tokens: int, prefix_ids: tuple[int, ...]
) -> None:
    pool = FakePool()

    async def run() -> Exchange:
        app = create_app(make_service(pool, ByteTokenizer(prefix_ids=prefix_ids)))
        fields: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": max_tokens}
        exchange = complete(app, prompt="hié", stream=stream, **fields)
        await settle()
        assert pool.submitted[0].params.prompt_logprobs == 1
        prompt_ids = pool.submitted[0].prompt_ids
        for token_id in prompt_ids[1:]:  # chunk by chunk
            pool.send(0, [], prompt_scores=[score_of(token_id, 1)])
        pool.play(0, b"xy"[:max_tokens], LENGTH)
        return await exchange.finished()

    exchange = asyncio.run(run())
    answers = exchange.chunks if stream else [exchange.json]
    answer = "xy"[:max_tokens]
    assert text_of_choices(answers) == {0: ("hié" + answer, "length")}
    logprobs = logprobs_of(answers)
    tokens = [*["<s>"] * len(prefix_ids), "h", "i", "bytes:\\xc3", "bytes:\\xa9", *answer]
    assert logprobs["tokens"] == tokens
    assert logprobs["token_logprobs"] == [None] + [-2.0] * (len(tokens) - 1)
    assert logprobs["top_logprobs"][0] is None
    assert logprobs["top_logprobs"][1] == {tokens[1]: -2.0, "A": -0.5}
    assert logprobs["text_offset"] == [*[0] * len(prefix_ids), 0, 1, 2, 2, 3, 4][: len(tokens)]


@given(
    st.binary(min_size=1, max_size=12),
    st.lists(st.text("abé", min_size=1, max_size=3), max_size=2),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_scores_and_ids_of_a_stream_are_those_of_the_whole_answer(
    tokens: bytes, stop: list[str], keeps_stop: bool
) -> None:
    fields: dict[str, Any] = {
        "logprobs": 2,
        "stop": stop,
        "include_stop_str_in_output": keeps_stop,
        "return_token_ids": True,
    }
    whole = completed(scripted(tokens), **fields).json
    chunks = completed(scripted(tokens), stream=True, **fields).chunks
    assert text_of_choices(chunks) == text_of_choices([whole])
    assert logprobs_of(chunks) == logprobs_of([whole])
    [choice] = whole["choices"]
    pieces = [chunk["choices"][0] for chunk in chunks]
    assert [i for piece in pieces for i in piece["token_ids"]] == choice["token_ids"]
    assert len(choice["token_ids"]) == whole["usage"]["completion_tokens"]
    assert ["prompt_token_ids" in piece for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert choice["prompt_token_ids"] == list(b"hi")
    assert pieces[-1]["stop_reason"] == choice["stop_reason"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_the_prompt_of_several_choices_is_scored_once(stream: bool, max_tokens: int) -> None:
    """Every choice once had it scored for itself; now the others wait for the first."""
    pool = FakePool()

    async def run() -> Exchange:
        fields: dict[str, Any] = {"echo": True, "logprobs": 0, "max_tokens": max_tokens, "n": 3}
        exchange = complete(app_of(pool), prompt="abc", stream=stream, **fields)
        await settle()
        assert [s.params.prompt_logprobs for s in pool.submitted.values()] == (
            [0, None, None] if max_tokens else [0]
        )
        for seq_id in (2, 1)[: 2 * max_tokens]:
            pool.send(seq_id, b"12"[seq_id - 1 : seq_id], LENGTH)  # before there is any score
        pool.send(0, [], prompt_scores=[score_of(98, 0)])
        pool.send(0, b"0"[:max_tokens], LENGTH, prompt_scores=[score_of(99, 0)])
        return await exchange.finished()

    exchange = asyncio.run(run())
    assert exchange.is_complete
    answers = exchange.chunks if stream else [exchange.json]
    texts = {index: ("abc" + str(index)[:max_tokens], "length") for index in range(3)}
    assert text_of_choices(answers) == texts
    for index in range(3):
        logprobs = logprobs_of(answers, index)
        assert logprobs["tokens"] == [*"abc", *str(index)[:max_tokens]]
        assert logprobs["token_logprobs"] == [None, -2.0, -2.0, -2.0][: 3 + max_tokens]


def test_a_prompt_of_one_token_keeps_nobody_waiting() -> None:
    pool = FakePool(script=(b"x", LENGTH))
    choices = completed(pool, prompt="a", echo=True, logprobs=0, max_tokens=1, n=2).json["choices"]
    assert [choice["logprobs"]["tokens"] for choice in choices] == [["a", "x"]] * 2


def test_prompt_logprobs_have_vllm_s_shape() -> None:
    pool = FakePool()

    async def run() -> Exchange:
        exchange = complete(app_of(pool), prompt_logprobs=1, max_tokens=0)
        await settle()
        pool.send(0, [], LENGTH, prompt_scores=[score_of(105, 1)])
        return await exchange.finished()

    [choice] = asyncio.run(run()).json["choices"]
    assert choice["prompt_logprobs"] == [
        None,
        {
            "65": {"logprob": -0.5, "rank": 1, "decoded_token": "A"},
            "105": {"logprob": -2.0, "rank": 4, "decoded_token": "i"},
        },
    ]
    assert choice["logprobs"] is None


def test_the_best_candidates_are_answered_best_first_and_all_are_counted() -> None:
    pool = FakePool()

    async def run() -> Exchange:
        exchange = complete(app_of(pool), prompt=["a", "b"], best_of=3, n=2)
        await settle()
        assert [s.params.logprobs for s in pool.submitted.values()] == [0] * 6
        for seq_id, logprob in enumerate([-3.0, -1.0, -2.0, -1.0, -2.0, -3.0]):
            score = TokenScore(logprob, 0, [])
            output = SeqOutput(seq_id, [97 + seq_id], LENGTH, scores=[score])
            pool.submitted[seq_id].receiver.receive(output)
        return await exchange.finished()

    answer = asyncio.run(run()).json
    assert [(c["index"], c["text"]) for c in answer["choices"]] == [
        (0, "b"),
        (1, "c"),
        (2, "d"),
        (3, "e"),
    ]
    assert answer["choices"][0]["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize(("shows_end", "text"), [(False, "a"), (True, "a!")])
def test_a_stop_token_is_text_only_when_asked_for(shows_end: bool, text: str) -> None:
    pool = FakePool()

    async def run() -> Exchange:
        exchange = complete(app_of(pool), stop_token_ids=[33], include_stop_str_in_output=shows_end)
        await settle()
        pool.send(0, b"a!", STOP, stop_token_id=33)
        return await exchange.finished()

    answer = asyncio.run(run()).json
    assert (answer["choices"][0]["text"], answer["choices"][0]["stop_reason"]) == (text, 33)
    assert answer["usage"]["completion_tokens"] == 2


def test_a_stop_string_is_the_stop_reason() -> None:
    answer = completed(scripted(b"abcd"), stop=["zz", "bc"]).json
    assert (answer["choices"][0]["text"], answer["choices"][0]["stop_reason"]) == ("a", "bc")


def test_no_stop_string_counts_in_the_first_min_tokens() -> None:
    answer = completed(scripted(b"xxaxb"), stop="x", min_tokens=2).json
    assert text_of_choices([answer]) == {0: ("xxa", "stop")}


def test_special_tokens_are_text_when_they_are_not_skipped() -> None:
    pool = FakePool()

    async def run() -> Exchange:
        exchange = complete(app_of(pool), skip_special_tokens=False)
        await settle()
        pool.send(0, [97, BOS, 98], LENGTH)
        return await exchange.finished()

    assert text_of_choices([asyncio.run(run()).json]) == {0: ("a<s>b", "length")}


@pytest.mark.parametrize(
    ("keep", "max_tokens", "kept"), [(3, 1, b"efg"), (7, 1, b"abcdefg"), (-1, 996, b"defg")]
)
def test_a_truncated_prompt_keeps_its_end(keep: int, max_tokens: int, kept: bytes) -> None:
    pool = scripted(b"x")
    fields: dict[str, Any] = {"truncate_prompt_tokens": keep, "max_tokens": max_tokens}
    answer = completed(pool, prompt="abcdefg", echo=True, **fields).json
    assert bytes(pool.submitted[0].prompt_ids) == kept
    assert text_of_choices([answer]) == {0: (kept.decode() + "x", "length")}


def test_a_prompt_goes_without_the_model_s_own_prefix_when_asked() -> None:
    for add_special_tokens, prompt_ids in [(True, [BOS, 104, 105]), (False, [104, 105])]:
        pool = scripted(b"x")

        async def run(pool: FakePool = pool, add: bool = add_special_tokens) -> None:
            app = create_app(make_service(pool, ByteTokenizer(prefix_ids=[BOS])))
            await complete(app, add_special_tokens=add).finished()

        asyncio.run(run())
        assert pool.submitted[0].prompt_ids == prompt_ids


def test_a_suffix_is_put_between_the_marks_of_a_model_that_fills_in() -> None:
    pool = scripted(b"x")
    marks = {"<fim_prefix>": 1, "<fim_suffix>": 2, "<fim_middle>": 3}

    async def run() -> Exchange:
        app = create_app(make_service(pool, ByteTokenizer(marks=marks)))
        return await complete(app, suffix="yo").finished()

    assert asyncio.run(run()).status == 200
    assert pool.submitted[0].prompt_ids == [1, 104, 105, 2, 121, 111, 3]


def test_priority_and_cache_salt_reach_the_pool() -> None:
    pool = scripted(b"x")
    completed(pool, priority=-3, cache_salt="s")
    assert (pool.submitted[0].priority, pool.submitted[0].cache_salt) == (-3, ":s")


def test_a_deadline_before_the_answer_is_a_408_that_is_not_retried() -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), timeout=5)
        await settle()
        assert 0 < pool.submitted[0].deadline - time.monotonic() <= 5
        pool.send(0, b"x")
        await advance(5.1)
        await exchange.finished()
        assert exchange.status == 408
        assert (exchange.error["param"], exchange.error["code"]) == ("timeout", "deadline_exceeded")
        assert exchange.headers["x-should-retry"] == "false"
        assert pool.aborted == [0]

    run_with_manual_clock(run)


def test_a_deadline_in_a_stream_is_an_error_event() -> None:
    pool = FakePool()

    async def run() -> None:
        exchange = complete(app_of(pool), timeout=5, stream=True)
        await settle()
        pool.send(0, b"x")
        await advance(5.1)
        await exchange.finished()
        assert exchange.chunks[-1]["error"]["code"] == "deadline_exceeded"
        assert not exchange.is_complete
        assert pool.aborted == [0]

    run_with_manual_clock(run)


def test_every_chunk_has_usage_when_asked() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    exchange = completed(scripted(b"ok"), stream=True, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in exchange.chunks]
    assert counts == [1, 2, 2]


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_fields_are_reported_in_a_header(stream: bool) -> None:
    exchange = completed(scripted(b"x"), stream=stream, foo=1, bar={"deep": []})
    assert exchange.status == 200
    assert exchange.headers["x-unisono-ignored-fields"] == "foo, bar"
    assert "x-unisono-ignored-fields" not in completed(scripted(b"x")).headers


def test_a_strict_server_refuses_unknown_fields() -> None:
    async def run() -> Exchange:
        app = create_app(make_service(FakePool(), strict=True))
        return await complete(app, max_token=5).finished()

    exchange = asyncio.run(run())
    assert (exchange.status, exchange.error["param"]) == (400, "max_token")
    assert "did you mean max_tokens?" in exchange.error["message"]


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"max_tokens": 0, "n": 129}])
def test_the_request_id_of_the_body_goes_before_that_of_the_header(fields: dict[str, Any]) -> None:
    body = msgspec.json.encode({"model": "tiny", "prompt": "p", "request_id": "mine", **fields})

    async def run() -> Exchange:
        headers = [("x-request-id", "other")]
        app = app_of(FakePool())
        return await Exchange(app, "POST", "/v1/completions", body, headers).finished()

    exchange = asyncio.run(run())
    expected = "other" if "n" in fields else "mine"  # not even decoded then
    assert exchange.headers["x-request-id"] == expected


def test_server_timing_says_where_the_time_went() -> None:
    timing = completed(scripted(b"ok")).headers["server-timing"]
    names = [part.split(";dur=")[0] for part in timing.split(", ")]
    assert names == ["prefill", "decode"]
    assert all(float(part.split(";dur=")[1]) >= 0 for part in timing.split(", "))
    assert server_timing(Timings(1.0, 1.5, 1.75, 3.75)) == {
        "server-timing": "queue;dur=500.0, prefill;dur=250.0, decode;dur=2000.0"
    }


def test_the_head_of_a_stream_tells_the_queue_if_it_is_over() -> None:
    async def head(*, is_sent: bool) -> dict[str, str]:
        pool = FakePool(is_sent_at_once=is_sent)
        exchange = complete(app_of(pool), stream=True)
        await settle()
        headers = exchange.headers
        pool.play(0, b"x", LENGTH)
        await exchange.finished()
        return headers

    assert asyncio.run(head(is_sent=True))["server-timing"].startswith("queue;dur=")
    assert "server-timing" not in asyncio.run(head(is_sent=False))
