"""Completions that end early: clients leave, engines fail, servers stop, deadlines pass."""

import asyncio
import time
from collections.abc import Callable

import pytest

from backend.wire.messages import NO_TOKEN_LEFT, FinishReason
from gateway.pool.refusals import CUT_OFF, PoolNotReady, QueueFull
from tests.gateway.completion_requests import DRAINING, LENGTH, refused, text_of_choices
from tests.gateway.fakes import (
    FakePool,
    advance,
    app_of,
    complete,
    manual_clock,
    settle,
)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("num_tokens", [0, 1, 3])
async def test_client_that_leaves_aborts_exactly_its_own_sequences(
    stream: bool, num_tokens: int
) -> None:
    tasks = asyncio.all_tasks()
    pool = FakePool()
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
    assert asyncio.all_tasks() == tasks


async def test_client_that_left_before_the_start_aborts_all_too() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), stream=True)
    exchange.leave()
    await exchange.finished()
    assert pool.running == set()


@pytest.mark.parametrize("stream", [False, True])
async def test_server_that_ends_aborts_what_runs(stream: bool) -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), stream=stream, n=2)
    await settle()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.finished()
    assert pool.aborted == [0, 1]


@pytest.mark.parametrize("stream", [False, True])
async def test_reached_stop_string_aborts_the_sequence_at_once(stream: bool) -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), stream=stream, stop="ND")
    await settle()
    pool.send(0, b"END more")
    assert pool.aborted == [0]
    await exchange.finished()
    assert pool.aborted == [0]
    answers = exchange.chunks if stream else [exchange.json]
    assert text_of_choices(answers) == {0: ("E", "stop")}


async def test_engine_failure_before_an_answer_is_a_500() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), n=2)
    await settle()
    pool.send(0, b"x")
    pool.send(0, b"", FinishReason.ERROR, error="the replica group died")
    await exchange.finished()
    assert exchange.status == 500
    assert exchange.error["message"] == "the replica group died"
    assert exchange.error["code"] == "engine_error"
    assert pool.aborted == [0, 1] or pool.running == set()


async def test_answer_that_the_operator_cut_off_says_so() -> None:
    """It was called a fault of the engine, in the log as well."""
    pool = FakePool()
    exchange = complete(app_of(pool))
    await settle()
    pool.send(0, b"", FinishReason.ERROR, error=CUT_OFF)
    await exchange.finished()
    assert exchange.status == 500
    assert exchange.error["code"] == "server_stopped"


async def test_rules_that_contradict_each_other_are_a_400() -> None:
    """A grammar and allowed_token_ids that have no token in common were a 500."""
    pool = FakePool()
    exchange = complete(app_of(pool))
    await settle()
    pool.send(0, b"", FinishReason.ERROR, error=NO_TOKEN_LEFT)
    await exchange.finished()
    assert exchange.status == 400
    assert exchange.error["type"] == "invalid_request_error"
    assert exchange.error["code"] == "no_token_left"


async def test_engine_failure_in_a_stream_is_an_event_without_done() -> None:
    pool = FakePool()
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


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [(PoolNotReady, 503, "not_ready"), (QueueFull, 429, "queue_full")],
)
@pytest.mark.parametrize("refuse_at", [0, 2])
async def test_refused_submit_is_a_status_and_leaves_nothing_running(
    stream: bool, refusal: Callable[..., Exception], status: int, code: str, refuse_at: int
) -> None:
    error = refusal(2.5)
    pool = FakePool(refusal=error, refuse_at=refuse_at)
    exchange = await refused(pool, stream=stream, n=4)
    assert exchange.status == status
    assert exchange.error["code"] == code
    assert exchange.headers["retry-after"] == "3"
    assert exchange.headers["retry-after-ms"] == "2500"
    assert pool.aborted == list(range(refuse_at))


async def test_draining_server_takes_no_new_work() -> None:
    exchange = await refused(FakePool(state=DRAINING))
    assert exchange.status == 503
    assert exchange.error["code"] == "shutting_down"
    assert 1 <= int(exchange.headers["retry-after"]) <= 60


async def test_draining_server_finishes_what_it_has() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), stream=True)
    await settle()
    pool.state = DRAINING
    pool.play(0, b"ok", LENGTH)
    await exchange.finished()
    assert exchange.events[-1] == b"[DONE]"


@manual_clock
async def test_deadline_before_the_answer_is_a_408_that_is_not_retried() -> None:
    pool = FakePool()
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


@manual_clock
async def test_deadline_in_a_stream_is_an_error_event() -> None:
    pool = FakePool()
    exchange = complete(app_of(pool), timeout=5, stream=True)
    await settle()
    pool.send(0, b"x")
    await advance(5.1)
    await exchange.finished()
    assert exchange.chunks[-1]["error"]["code"] == "deadline_exceeded"
    assert not exchange.is_complete
    assert pool.aborted == [0]
