"""POST /v1/responses over a pool and a template played by hand, read with openai's own types."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseReasoningItem, ResponseStreamEvent
from pydantic import TypeAdapter

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.notations.compiled import CompiledNotation, compiled
from gateway.notations.library import builtin
from gateway.notations.served import ServedNotation
from tests.gateway.fake_template import FakeTemplate, fake_templates
from tests.gateway.fakes import Exchange, FakePool, make_service

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
EOS = b"."  # the last token of a sequence that stops is no text
CALL = b'<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
PATCH = b'<tool_call>\n{"name": "patch", "arguments": {"input": "*** Begin"}}\n</tool_call>'
SEARCHED = b'<tool_call>\n{"name": "tool_search", "arguments": {"query": "sky"}}\n</tool_call>'
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds tools."}
DEFERRED = WEATHER | {"name": "tides", "defer_loading": True}
BLOCKING = {"model": "omni", "policy": {"input": {"mode": "block"}}}
LOGPROBS = {"include": ["message.output_text.logprobs"]}

_events = TypeAdapter[ResponseStreamEvent](ResponseStreamEvent)


def playing(text: bytes, finish: FinishReason = STOP) -> FakePool:
    return FakePool(script=(text + EOS if finish is STOP else text, finish))


async def ask(
    pool: FakePool,
    template: FakeTemplate | None = None,
    path: str = "",
    notation: CompiledNotation | None = None,
    **fields: Any,
) -> Exchange:
    """Return the finished exchange of one request."""
    service = make_service(pool)
    if notation is not None:
        service = replace(service, notation=ServedNotation(notation))
    templates = fake_templates(default=template or FakeTemplate())
    app = create_app(replace(service, chat_templates=templates))
    body = {"model": "tiny", "input": "hi", **fields}
    path = f"/v1/responses{path}"
    return await Exchange(app, "POST", path, msgspec.json.encode(body)).finished()


async def answered(pool: FakePool, **fields: Any) -> Response:
    exchange = await ask(pool, **fields)
    assert exchange.status == 200, exchange.body
    return Response.model_validate(exchange.json)


async def streamed(pool: FakePool, **fields: Any) -> list[Any]:
    exchange = await ask(pool, stream=True, **fields)
    events: list[Any] = []
    for framed in exchange.body.removesuffix(b"\n\n").split(b"\n\n"):
        name, data = framed.split(b"\n")
        events.append(_events.validate_json(data.removeprefix(b"data: ")))
        assert name == b"event: " + events[-1].type.encode()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


async def messages_of(items: list[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    """Return what the template is told of these items."""
    template = FakeTemplate()
    exchange = await ask(playing(b"ok"), template, input=items, **fields)
    assert exchange.status == 200, exchange.body
    return template.seen[-1].messages


async def refused(**fields: Any) -> dict[str, Any]:
    pool = FakePool()
    exchange = await ask(pool, **fields)
    assert exchange.status == 400, exchange.body
    assert not pool.submitted
    return exchange.error


async def test_answer_is_one_message_and_what_was_asked() -> None:
    response = await answered(playing(b"hello"), instructions="Be brief. ", max_output_tokens=9)
    assert response.output_text == "hello"
    assert (response.status, response.object, response.instructions) == (
        "completed",
        "response",
        "Be brief. ",
    )
    [message] = response.output
    assert message.type == "message" and message.id.startswith("msg_")
    assert response.usage is not None
    assert response.usage.input_tokens == len("Be brief. hi")
    assert response.usage.output_tokens == 6
    assert response.max_output_tokens == 9
    assert response.store is False  # type: ignore[attr-defined]


async def test_answer_that_is_cut_short_is_incomplete() -> None:
    response = await answered(playing(b"hel", LENGTH), max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].status == "incomplete"  # type: ignore[union-attr]
    [*_, last] = await streamed(playing(b"hel", LENGTH), max_output_tokens=3)
    assert last.type == "response.incomplete"
    assert last.response.output[0].status == "incomplete"


async def test_stream_tells_of_text_piece_by_piece_and_at_its_end() -> None:
    events = await streamed(playing(b"hey"))
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event.delta for event in events[4:7]) == events[7].text == "hey"
    assert events[-1].response.output_text == "hey"
    assert events[-1].response.usage.output_tokens == 4
    item_ids = {event.item_id for event in events[3:9]}
    assert item_ids == {events[2].item.id} == {events[-1].response.output[0].id}


async def test_stream_of_no_text_has_an_empty_message() -> None:
    events = await streamed(playing(b""))
    [message] = events[-1].response.output
    assert [part.text for part in message.content] == [""]


async def test_call_is_an_item_of_its_own() -> None:
    response = await answered(playing(CALL), tools=[WEATHER])
    [call] = response.output
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("weather", '{"city": "Bern"}')
    assert response.tools[0].model_dump(exclude_none=True) == WEATHER


async def test_streamed_call_has_its_arguments_in_pieces_and_whole() -> None:
    events = await streamed(playing(b"I look. " + CALL), tools=[WEATHER])
    message, call = events[-1].response.output
    assert message.content[0].text.strip() == "I look."
    deltas = [e for e in events if e.type == "response.function_call_arguments.delta"]
    [done] = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert "".join(e.delta for e in deltas) == done.arguments == call.arguments
    assert call.arguments == '{"city": "Bern"}'
    assert {e.output_index for e in deltas} == {1}
    added = [e.item.type for e in events if e.type == "response.output_item.added"]
    assert added == ["message", "function_call"]


async def test_call_that_is_cut_short_is_incomplete() -> None:
    cut = CALL[: CALL.index(b"Bern")]
    *_, done, last = await streamed(playing(cut, LENGTH), tools=[WEATHER])
    assert (done.item.type, done.item.status) == ("function_call", "incomplete")
    assert last.type == "response.incomplete"


async def test_custom_tool_is_called_with_text() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    tools = [{"type": "custom", "name": "patch", "description": "Edits.", "format": grammar}]
    template = FakeTemplate()
    exchange = await ask(playing(PATCH), template, tools=tools)
    [call] = Response.model_validate(exchange.json).output
    assert call.type == "custom_tool_call"
    assert (call.name, call.input) == ("patch", "*** Begin")
    [told] = template.seen[0].tools or []
    assert "start: x" in told["function"]["description"]
    assert list(told["function"]["parameters"]["properties"]) == ["input"]
    events = await streamed(playing(PATCH), tools=tools)
    [done] = [e for e in events if e.type == "response.custom_tool_call_input.done"]
    assert done.input == events[-1].response.output[0].input == "*** Begin"


async def test_function_of_a_namespace_is_answered_by_its_own_name() -> None:
    tools = [{"type": "namespace", "name": "sky", "description": "", "tools": [WEATHER]}]
    called = CALL.replace(b"weather", b"sky__weather")
    response = await answered(playing(called), tools=tools)
    [call] = response.output
    assert call.type == "function_call"
    assert (call.name, call.namespace) == ("weather", "sky")


async def test_custom_tool_of_a_namespace_is_called_with_text() -> None:
    """Codex has its `exec` so; the namespace was forgotten, and the call was a function's."""
    patch = {"type": "custom", "name": "patch"}
    tools = [{"type": "namespace", "name": "functions", "description": "Edit.", "tools": [patch]}]
    template = FakeTemplate()
    called = PATCH.replace(b"patch", b"functions__patch")
    exchange = await ask(playing(called), template, tools=tools)
    [call] = Response.model_validate(exchange.json).output
    assert call.type == "custom_tool_call"
    assert (call.name, call.namespace, call.input) == ("patch", "functions", "*** Begin")
    [told] = template.seen[0].tools or []
    assert told["function"]["description"] == "functions: Edit."
    assert list(told["function"]["parameters"]["properties"]) == ["input"]


async def test_search_for_tools_is_called_and_its_result_told() -> None:
    template = FakeTemplate()
    exchange = await ask(playing(SEARCHED), template, tools=[SEARCH, DEFERRED])
    [call] = Response.model_validate(exchange.json).output
    assert call.type == "tool_search_call"
    assert (call.execution, call.arguments) == ("client", {"query": "sky"})
    [told] = template.seen[0].tools or []
    assert told["function"]["name"] == "tool_search"

    found = {"type": "namespace", "name": "sky", "description": "", "tools": [WEATHER]}
    items = [
        {"role": "user", "content": "hi"},
        call.model_dump(),
        {"type": "tool_search_output", "call_id": call.call_id, "tools": [found]},
    ]
    template = FakeTemplate()
    called = CALL.replace(b"weather", b"sky__weather")
    exchange = await ask(playing(called), template, tools=[SEARCH, DEFERRED], input=items)
    [seen] = template.seen
    assert [tool["function"]["name"] for tool in seen.tools or []] == ["tool_search"]
    _, asked, result = seen.messages
    assert asked["tool_calls"][0]["function"] == {
        "name": "tool_search",
        "arguments": {"query": "sky"},
    }
    assert result["tool_call_id"] == call.call_id
    assert '"name":"sky__weather"' in result["content"]
    [item] = Response.model_validate(exchange.json).output
    assert item.type == "function_call"
    assert (item.name, item.namespace) == ("weather", "sky")


async def test_search_is_streamed_as_an_item_without_pieces() -> None:
    events = await streamed(playing(SEARCHED), tools=[SEARCH])
    added, done = (e for e in events if e.type.startswith("response.output_item"))
    assert (added.item.arguments, added.item.status) == ({}, "in_progress")
    assert (done.item.arguments, done.item.status) == ({"query": "sky"}, "completed")
    assert not [e for e in events if "arguments" in e.type]
    cut = SEARCHED[: SEARCHED.index(b"sky")]
    *_, done, last = await streamed(playing(cut, LENGTH), tools=[SEARCH])
    assert (done.item.type, done.item.status) == ("tool_search_call", "incomplete")
    assert last.type == "response.incomplete"


async def test_added_tools_are_told_where_they_come() -> None:
    """Those before the first turn stand at the head, as Codex sends all it has."""
    added = {"type": "additional_tools", "role": "developer"}
    later = WEATHER | {"name": "time"}
    items = [
        added | {"tools": [WEATHER]},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        added | {"tools": [WEATHER, later]},
        added | {"tools": [later]},
        {"role": "user", "content": "Weather?"},
    ]
    template = FakeTemplate()
    exchange = await ask(playing(CALL.replace(b"weather", b"time")), template, input=items)
    [seen] = template.seen
    assert [tool["function"]["name"] for tool in seen.tools or []] == ["weather"]
    roles = [message["role"] for message in seen.messages]
    assert roles == ["developer", "user", "assistant", "developer", "user"]
    told = seen.messages[3]["content"]
    assert '"name":"time"' in told and "weather" not in told
    [call] = Response.model_validate(exchange.json).output
    assert call.type == "function_call" and call.name == "time"


async def test_last_configuration_update_counts() -> None:
    template = FakeTemplate()
    items = [
        {"type": "configuration_update", "reasoning": {"effort": "high"}},
        {"role": "user", "content": "hi"},
        {"type": "configuration_update", "reasoning": {"effort": "none"}},
        {"role": "user", "content": "ho"},
    ]
    asked: Any = {"input": items, "reasoning": {"effort": "low"}}
    exchange = await ask(playing(b"x"), template, **asked)
    assert exchange.status == 200
    assert exchange.json["reasoning"]["effort"] == "none"
    [seen] = template.seen
    assert seen.options["reasoning_effort"] == "none"
    assert [message["content"] for message in seen.messages] == ["hi", "ho"]


async def test_message_of_another_agent_says_from_whom() -> None:
    said = {"type": "agent_message", "author": "/root/a", "recipient": "/root"}
    text = {"type": "input_text", "text": "Done."}
    [message] = await messages_of([said | {"content": [text]}])
    assert message == {"role": "user", "content": "From /root/a to /root:\nDone."}
    hidden = {"type": "encrypted_content", "encrypted_content": "gAAAA"}
    error = await refused(input=[said | {"content": [hidden]}])
    assert error["param"] == "input[0].content[0]"


async def test_items_of_one_turn_are_one_message() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    messages = await messages_of(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            thought | {"content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": "I look."},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "weather",
                "arguments": '{"city": "Bern"}',
            },
            {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {
                "type": "custom_tool_call_output",
                "call_id": "c2",
                "output": [{"type": "input_text", "text": "done"}],
            },
            thought | {"summary": [{"type": "summary_text", "text": "Wet."}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]},
            {"role": "user", "content": "Thanks"},
        ]
    )
    roles = [message["role"] for message in messages]
    assert roles == ["developer", "user", "assistant", "tool", "tool", "assistant", "user"]
    first, second = messages[2], messages[5]
    assert (first["content"], first["reasoning_content"]) == ("I look.", "Hm.")
    calls = [call["function"] for call in first["tool_calls"]]
    assert calls == [
        {"name": "weather", "arguments": {"city": "Bern"}},
        {"name": "patch", "arguments": {"input": "*"}},
    ]
    assert [message["content"] for message in messages[3:5]] == ["rain", "done"]
    assert (second["content"], second["reasoning_content"]) == ("Rain.", "Wet.")


async def test_two_messages_of_the_assistant_stay_two() -> None:
    said = [{"role": "assistant", "content": text} for text in ("a", "b")]
    messages = await messages_of([*said, {"role": "user", "content": "c"}])
    assert [message["content"] for message in messages] == ["a", "b", "c"]


async def test_text_format_is_refused_in_the_callers_words() -> None:
    # Where no grammar can be checked, the refusal names the field that asked for one.
    form = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": True}
    error = await refused(text={"format": form})
    assert error["param"] == "text.format" and "'text.format'" in error["message"]
    error = await refused(text={"format": {"type": "json_schema", "name": "a"}})
    assert error["param"] == "text.format.schema"
    assert (await answered(playing(b"x"), text={"format": {"type": "text"}})).output_text == "x"


async def test_log_probabilities_are_told_where_they_are_included() -> None:
    response = await answered(playing(b"ab"), top_logprobs=0, **LOGPROBS)
    text = response.output[0].content[0]  # type: ignore[union-attr,index]
    assert [entry.token for entry in text.logprobs or []] == ["a", "b"]  # type: ignore[union-attr]
    events = await streamed(playing(b"ab"), **LOGPROBS)
    deltas = [e for e in events if e.type == "response.output_text.delta"]
    assert sum(len(e.logprobs) for e in deltas) == 2
    assert (await refused(top_logprobs=2))["param"] == "top_logprobs"


async def test_tool_choice_names_one_function_or_some() -> None:
    other = WEATHER | {"name": "time"}
    template = FakeTemplate()
    choice = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "time"}],
    }
    asked: dict[str, Any] = {"tools": [WEATHER, other], "tool_choice": choice}
    # To hold calls to some takes a grammar, which is not to be had here.
    exchange = await ask(playing(b"x"), template, **asked)
    assert exchange.status == 200, exchange.body
    told = [tool["function"]["name"] for tool in template.seen[-1].tools or []]
    assert told == ["weather", "time"]
    assert (await refused(**asked | {"tool_choice": choice | {"tools": []}}))["param"] == (
        "tool_choice"
    )
    error = await refused(tools=[WEATHER], tool_choice={"type": "function", "name": "time"})
    assert "time" in error["message"]
    assert (await refused(tool_choice="required"))["param"] == "tool_choice"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"n": 2}, "n"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"response_format": {"type": "text"}}, "response_format"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "custom", "name": "a b"}]}, "tools[0].name"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tools": [{"type": "tool_search"}]}, "tools[0].execution"),
        ({"tools": [WEATHER | {"allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers"),
        ({"tools": [{"type": "programmatic_tool_calling"}]}, "tools[0]"),
        (
            {"tools": [SEARCH, DEFERRED], "tool_choice": {"type": "function", "name": "x"}},
            "tool_choice",
        ),
        ({"input": [{"type": "additional_tools", "role": "developer"}]}, "input[0].tools"),
        (
            {"input": [{"type": "additional_tools", "tools": [{"type": "shell"}]}]},
            "input[0].tools[0]",
        ),
        ({"input": [{"type": "tool_search_output", "tools": []}]}, "input[0].call_id"),
        (
            {"input": [{"type": "tool_search_call", "execution": "server", "arguments": {}}]},
            "input[0].execution",
        ),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0]"),
        ({"moderation": BLOCKING}, "moderation.policy.input"),
        ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
        ({"tools": [WEATHER], "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0]"),
        ({"input": [{"content": "hi"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        (
            {
                "instructions": "Be kind.",
                "input": [
                    {"role": "user", "content": "hi"},
                    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "[]"},
                ],
            },
            "input[1].arguments",
        ),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0]",
        ),
    ],
)
async def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert (await refused(**fields))["param"] == param


async def test_cut_thought_is_the_same_whole_and_streamed() -> None:
    """A whole one had an empty message after the thought."""
    fields: Any = {"notation": compiled(builtin("hermes"), builtin("think"))}
    whole = await answered(playing(b"<think>\nIt is", LENGTH), **fields)
    *_, last = await streamed(playing(b"<think>\nIt is", LENGTH), **fields)
    for response in (whole, last.response):
        [item] = response.output
        assert isinstance(item, ResponseReasoningItem)
        assert item.status == "incomplete"


async def test_thoughts_come_back_in_the_form_they_were_given_out() -> None:
    changed = {"type": "reasoning", "summary": [], "encrypted_content": "unisono:%%"}
    error = await refused(input=[changed, {"role": "user", "content": "hi"}])
    assert error["param"] == "input[0].encrypted_content"
    foreign = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    messages = await messages_of([foreign, {"role": "assistant", "content": "a"}])
    assert "reasoning_content" not in messages[0]


async def test_input_tokens_are_counted() -> None:
    exchange = await ask(FakePool(), path="/input_tokens", instructions="abc")
    assert exchange.json == {"object": "response.input_tokens", "input_tokens": 5}


async def test_no_answer_can_be_retrieved() -> None:
    app = create_app(make_service(FakePool()))
    exchange = await Exchange(app, "GET", "/v1/responses/resp_1").finished()
    assert (exchange.status, exchange.error["code"]) == (404, "response_not_found")
