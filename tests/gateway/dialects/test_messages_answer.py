"""What Anthropic's clients are answered, whole and streamed, over HTTP."""

from typing import Any

import msgspec
import pytest

from backend.wire.messages import FinishReason
from backend.wire.sampling import SamplingParams
from gateway.answer_events import (
    AnswerEvent,
    ArgumentsDelta,
    CallBegin,
    CallEnd,
    ReasoningDelta,
    TextDelta,
)
from gateway.answers.choice import Choice
from gateway.answers.whole_answer import WholeChoice
from gateway.dialects.messages_answer import MessageAnswer, MessageStream
from gateway.requests.prompt import Prompt
from gateway.schema.anthropic import MessagesRequest
from gateway.schema.usage import PromptTokensDetails, Usage
from tests.gateway.dialects.anthropic_client import (
    CALL,
    LENGTH,
    STOP,
    TOOL,
    ask,
    assembled,
    events_of,
    framed_events,
    playing,
)
from tests.gateway.fakes import ByteDetokenizer, Exchange, FakePool, make_service


async def both(text: bytes, finish: Any = STOP, **fields: Any) -> dict[str, Any]:
    """Return the message, which is the same whole and streamed."""
    whole = (await ask(playing(text, finish), **fields)).json
    streamed = assembled(events_of(await ask(playing(text, finish), stream=True, **fields)))
    for message in (whole, streamed):
        assert message.pop("id").startswith("msg_")
        for block in message["content"]:
            if block["type"] == "tool_use":
                assert block.pop("id").startswith("toolu_")
    assert whole == streamed
    return dict(whole)


async def test_answer_has_anthropics_shape() -> None:
    message = await both(b"hello")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": "tiny",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 2,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 6,
        },
    }


async def test_events_come_in_their_order() -> None:
    exchange = await ask(playing(b"ab"), stream=True)
    assert exchange.headers["content-type"].startswith("text/event-stream")
    events = events_of(exchange)
    assert [event["type"] for event in events] == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["usage"]["input_tokens"] == 2
    assert events[0]["message"]["stop_reason"] is None
    assert [event["delta"] for event in events[3:5]] == [
        {"type": "text_delta", "text": "a"},
        {"type": "text_delta", "text": "b"},
    ]


async def test_calls_are_blocks_after_the_text() -> None:
    message = await both(b"Let me see.\n" + CALL + b"\n" + CALL, tools=[TOOL])
    call = {"type": "tool_use", "name": "weather", "input": {"city": "Bern"}}
    assert message["content"] == [{"type": "text", "text": "Let me see."}, call, call]
    assert message["stop_reason"] == "tool_use"


async def test_one_call_at_most_where_only_one_is_wanted() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = await both(CALL + b"\n" + CALL, tools=[TOOL], tool_choice=choice)
    assert [block["type"] for block in message["content"]] == ["tool_use"]


async def test_arguments_are_streamed_as_they_come() -> None:
    events = events_of(await ask(playing(CALL), stream=True, tools=[TOOL]))
    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert {delta["type"] for delta in deltas} == {"input_json_delta"}
    assert len(deltas) == len('{"city": "Bern"}')


async def test_call_that_is_cut_off_is_none() -> None:
    cut = CALL[:-20]
    message = (await ask(playing(cut, LENGTH), tools=[TOOL])).json
    assert message["content"] == [] and message["stop_reason"] == "max_tokens"
    *_, delta, _ = events_of(await ask(playing(cut, LENGTH), stream=True, tools=[TOOL]))
    assert delta["delta"]["stop_reason"] == "max_tokens"


async def test_stop_sequence_is_named() -> None:
    message = await both(b"one, two", stop_sequences=["three", ", "])
    assert message["content"] == [{"type": "text", "text": "one"}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", ", ")


async def test_answer_without_text_has_no_blocks() -> None:
    assert (await both(b""))["content"] == []


@pytest.mark.parametrize(("asked", "reason"), [(3, "max_tokens"), (5000, None)])
async def test_end_at_the_limit_says_whose_it_was(asked: int, reason: str | None) -> None:
    message = await both(b"abc", LENGTH, max_tokens=asked)
    assert message["stop_reason"] == reason or "model_context_window_exceeded"


async def test_more_tokens_than_fit_are_no_mistake() -> None:
    """Agents ask for the longest output that Anthropic's models have, whatever the model."""
    pool = playing(b"a")
    await ask(pool, max_tokens=64_000)
    assert pool.submitted[0].params.max_tokens == 998


async def test_cached_tokens_are_counted_apart() -> None:
    class Cached(FakePool):
        def play(self, seq_id: int, *args: Any) -> None:
            self.send(seq_id, b"a", num_cached_tokens=1)
            self.send(seq_id, b".", STOP)

    pool = Cached(script=(b"", STOP))
    events = events_of(await ask(pool, stream=True))
    start, end = events[0]["message"]["usage"], events[-2]["usage"]
    assert (start["input_tokens"], start["cache_read_input_tokens"]) == (1, 1)
    assert (end["input_tokens"], end["cache_read_input_tokens"], end["output_tokens"]) == (1, 1, 2)


async def test_stream_that_breaks_off_says_why() -> None:
    class Failing(FakePool):
        def play(self, seq_id: int, *args: Any) -> None:
            self.send(seq_id, b"a")
            self.send(seq_id, b"", FinishReason.ERROR, error="rank 0 died")

    exchange = await ask(Failing(script=(b"", STOP)), stream=True)
    *_, last = events_of(exchange)
    assert last == {
        "type": "error",
        "error": {"type": "api_error", "message": "rank 0 died"},
        "request_id": exchange.headers["request-id"],
    }


async def test_silent_stream_is_pinged_with_an_event() -> None:
    assert MessageStream.ping == b'event: ping\ndata: {"type":"ping"}\n\n'


async def test_request_id_is_where_clients_look_for_it() -> None:
    exchange: Exchange = await ask(request_id="mine")
    assert exchange.headers["request-id"] == exchange.headers["x-request-id"]


class Written:
    """One answer of given events, whole and as a stream."""

    def __init__(self, **fields: Any) -> None:
        asked = [{"role": "user", "content": "hi"}]
        body = {"model": "tiny", "max_tokens": 9, "messages": asked, **fields}
        request = msgspec.convert(body, MessagesRequest)
        self.answer = MessageAnswer(request, make_service(FakePool()))
        self.choice = Choice(0, Prompt([1]), SamplingParams(max_tokens=9), ByteDetokenizer())
        self.choice.finish_reason = STOP
        self.usage = Usage(1, 2, 3, PromptTokensDetails(0))

    def whole(self, *events: AnswerEvent) -> list[Any]:
        whole = WholeChoice(self.choice, ())
        whole.add(events)
        message = self.answer.whole([whole], self.usage)
        blocks: list[Any] = msgspec.to_builtins(message.content)
        return blocks

    def streamed(self, *events: AnswerEvent) -> list[Any]:
        form = self.answer.stream()
        form.usage = lambda: self.usage
        framed = form.begin(self.choice) + form.pieces(self.choice, events, ())
        framed += form.finish(self.usage)
        blocks: list[Any] = assembled(framed_events(framed))["content"]
        return blocks


THOUGHT = (ReasoningDelta("Where "), ReasoningDelta("is it?"), TextDelta("In "), TextDelta("Bern."))


def test_thoughts_are_a_block_of_their_own() -> None:
    written = Written()
    whole = written.whole(*THOUGHT)
    assert [block["type"] for block in whole] == ["thinking", "text"]
    assert whole[0]["thinking"] == "Where is it?" and whole[0]["signature"]
    assert written.streamed(*THOUGHT) == whole


def test_omitted_thoughts_leave_an_empty_block() -> None:
    written = Written(thinking={"type": "adaptive", "display": "omitted"})
    whole = written.whole(*THOUGHT)
    assert whole[0]["thinking"] == "" and whole[1]["text"] == "In Bern."
    assert written.streamed(*THOUGHT) == whole


def test_blocks_come_in_the_order_of_the_model() -> None:
    events = (
        TextDelta("a"),
        CallBegin(0, "call_x", "f"),
        ArgumentsDelta(0, '{"b":'),
        ArgumentsDelta(0, "1}"),
        CallEnd(0),
        TextDelta("c"),
        CallBegin(1, "call_y", "g"),
        ArgumentsDelta(1, "{}"),
        CallEnd(1),
    )
    written = Written()
    whole = written.whole(*events)
    assert whole == [
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "toolu_x", "name": "f", "input": {"b": 1}},
        {"type": "text", "text": "c"},
        {"type": "tool_use", "id": "toolu_y", "name": "g", "input": {}},
    ]
    assert written.streamed(*events) == whole


def test_answers_cut_within_a_call_do_not_end_in_one() -> None:
    first = (CallBegin(0, "call_x", "f"), ArgumentsDelta(0, "{}"), CallEnd(0))
    written = Written()
    whole = WholeChoice(written.choice, ())
    whole.add(first)
    whole.is_call_cut = True
    assert written.answer.whole([whole], written.usage).stop_reason == "end_turn"
    form = written.answer.stream()
    form.usage = lambda: written.usage
    framed = form.begin(written.choice)
    framed += form.pieces(written.choice, (*first, CallBegin(1, "call_y", "g")), ())
    framed += form.finish(written.usage)
    assert assembled(framed_events(framed))["stop_reason"] == "end_turn"
