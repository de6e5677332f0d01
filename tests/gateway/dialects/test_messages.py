"""What Anthropic's fields mean, over HTTP: what the template, the engine and the client see."""

from typing import Any

import msgspec
import pytest

from gateway.dialects.messages import tools_of
from gateway.schema.anthropic import CountTokensRequest
from gateway.service import Limits
from tests.gateway.dialects.anthropic_client import TOOL, ask, playing
from tests.gateway.fake_template import FakeTemplate, switched
from tests.gateway.fakes import FakePool


async def shown(**fields: Any) -> Any:
    """Return the conversation that the template was given."""
    template = FakeTemplate()
    exchange = await ask(template=template, **fields)
    assert exchange.status == 200, exchange.body
    return template.seen[-1]


async def refused(status: int = 400, **fields: Any) -> dict[str, Any]:
    pool = FakePool()
    exchange = await ask(pool, **fields)
    assert exchange.status == status, exchange.body
    assert not pool.submitted
    assert exchange.json["type"] == "error"
    error: dict[str, Any] = exchange.json["error"]
    return error


async def test_sampling_fields_reach_the_engine() -> None:
    pool = playing(b"a")
    await ask(pool, temperature=0.5, top_p=0.9, top_k=5, max_tokens=7)
    params = pool.submitted[0].params
    assert (params.temperature, params.top_p, params.top_k, params.max_tokens) == (0.5, 0.9, 5, 7)


async def test_tools_are_told_as_a_chat_tells_them() -> None:
    conversation = await shown(tools=[TOOL])
    function = {"name": "weather", "description": "of a city", "parameters": {"type": "object"}}
    assert conversation.tools == [{"type": "function", "function": function}]
    assert (await shown(tools=[TOOL], tool_choice={"type": "none"})).tools is None


FOUND = {"name": "clock", "input_schema": {"type": "object"}, "defer_loading": True}


def found(*names: str) -> list[dict[str, Any]]:
    """Return a conversation in which a search has found some tools."""
    references = [{"type": "tool_reference", "tool_name": name} for name in names]
    result = {"type": "tool_result", "tool_use_id": "a", "content": references}
    call = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    turns = [("user", "hi"), ("assistant", [call]), ("user", [result])]
    return [{"role": role, "content": content} for role, content in turns]


async def test_deferred_tools_are_told_of_where_a_result_refers() -> None:
    """Claude Code's search for tools: at the head, they would change what the cache holds."""
    conversation = await shown(tools=[TOOL, FOUND])
    assert [tool["function"]["name"] for tool in conversation.tools] == ["weather"]
    later = await shown(tools=[TOOL, FOUND], messages=found("clock", "weather"))
    assert later.tools == conversation.tools
    assert later.messages[-1]["content"] == (
        "<functions>\n"
        '<function>{"name":"clock","parameters":{"type":"object"}}</function>\n'
        '<function>{"description":"of a city","name":"weather",'
        '"parameters":{"type":"object"}}</function>\n'
        "</functions>"
    )
    assert (await shown(tools=[FOUND])).tools is None


async def test_only_a_deferred_tool_that_was_found_may_be_demanded() -> None:
    demanded = {"type": "any"}
    error = await refused(tools=[FOUND], tool_choice=demanded)
    assert "deferred and was not found" in error["message"]
    for messages, may_call_clock in ((found("weather"), False), (found("clock"), True)):
        body: dict[str, Any] = {"model": "tiny", "tools": [TOOL, FOUND], "messages": messages}
        body["tool_choice"] = demanded
        tools = tools_of(msgspec.convert(body, CountTokensRequest))
        assert tools is not None
        assert tools.may_call("weather")
        assert tools.may_call("clock") is may_call_clock


async def test_reference_to_no_tool_is_refused_by_place() -> None:
    error = await refused(tools=[TOOL, FOUND], messages=found("clock", "watch"))
    assert "'messages[2].content[0].content[1].tool_name'" in error["message"]


async def test_any_word_for_how_thoughts_are_shown_is_taken() -> None:
    """Claude Code 2.1.332 sends `updates`, and tried thrice where that was refused."""
    assert (await shown(thinking={"type": "adaptive", "display": "updates"})).options


@pytest.mark.parametrize(
    ("thinking", "options"),
    [
        (None, {}),
        ({"type": "enabled", "budget_tokens": 1024}, switched("enabled", thinking_budget=1024)),
        ({"type": "adaptive"}, switched("adaptive")),
        ({"type": "disabled"}, switched("disabled")),
    ],
)
async def test_thinking_is_a_variable_of_the_template(
    thinking: Any, options: dict[str, Any]
) -> None:
    assert (await shown(thinking=thinking)).options == options


async def test_effort_is_a_variable_of_the_template() -> None:
    options = (await shown(output_config={"effort": "low"})).options
    assert options == switched("adaptive", reasoning_effort="low", thinking_effort="low")


async def test_last_message_of_an_assistant_is_gone_on_with() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "The answer is ("}]
    conversation = await shown(messages=turns)
    assert conversation.continues_final_message and not conversation.add_generation_prompt
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    error = await refused(messages=[{"role": "assistant", "content": [call]}])
    assert "last message with content" in error["message"]


async def test_tokens_are_counted_without_an_answer() -> None:
    """The system prompt, and the user's turn."""
    pool = FakePool()
    exchange = await ask(
        pool, path="/v1/messages/count_tokens", max_tokens=..., system="be kind", tools=[TOOL]
    )
    assert exchange.json == {"input_tokens": len("be kindhi")}
    assert not pool.submitted
    long = [{"role": "user", "content": "x" * 5000}]
    exchange = await ask(path="/v1/messages/count_tokens", max_tokens=..., messages=long)
    assert exchange.json == {"input_tokens": 5000}, "longer than the context"


def changed(kind: str, name: str) -> dict[str, Any]:
    """Return a message of the system that adds or removes a tool."""
    change = {"type": "tool_reference", "name": name}
    return {"role": "system", "content": [{"type": kind, "tool": change}]}


async def test_tools_are_added_and_removed_between_turns() -> None:
    """Claude Code announces this as a beta; where it happens the model reads of it."""
    defined = {"type": "tool_definition", "definition": TOOL | {"name": "tides"}}
    turns = [
        {"role": "user", "content": "hi"},
        changed("tool_addition", "clock"),
        changed("tool_removal", "weather"),
        {"role": "system", "content": [{"type": "tool_addition", "tool": defined}]},
    ]
    body: dict[str, Any] = {"model": "tiny", "tools": [TOOL, FOUND], "messages": turns}
    tools = tools_of(msgspec.convert(body, CountTokensRequest))
    assert tools is not None
    assert [tools.may_call(name) for name in ("weather", "clock", "tides")] == [False, True, True]
    assert tools.schema_place(2) == "messages[3].content[0].tool.definition.input_schema"
    seen = await shown(tools=[TOOL, FOUND], messages=turns[:3])
    assert [tool["function"]["name"] for tool in seen.tools] == ["weather"]
    said = seen.messages[-1]["content"]
    assert '"name":"clock"' in said and "The tool weather cannot be called from here on." in said
    back = [*turns, changed("tool_addition", "weather")]
    tools = tools_of(msgspec.convert(body | {"messages": back}, CountTokensRequest))
    assert tools is not None and tools.may_call("weather")


async def test_system_sets_the_effort_of_one_turn() -> None:
    hard = {"role": "system", "output_config": {"effort": "high"}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": "1"}
    call = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        hard,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    asked: dict[str, Any] = {"output_config": {"effort": "low"}, "tools": [TOOL]}
    seen = await shown(messages=turns, **asked)
    assert seen.options["reasoning_effort"] == "high"
    assert [message["role"] for message in seen.messages] == ["user", "assistant", "tool"]
    seen = await shown(messages=[*turns, {"role": "user", "content": "ho"}], **asked)
    assert seen.options["reasoning_effort"] == "low"


async def test_message_of_the_system_may_be_for_one_turn_alone() -> None:
    once = {"role": "system", "content": "Be brief.", "clear_at": "next_user_message"}
    turns = [{"role": "user", "content": "hi"}, once]
    assert "Be brief." in (await shown(messages=turns)).messages[-1]["content"]
    turns += [{"role": "assistant", "content": "ho"}, {"role": "user", "content": "so"}]
    seen = (await shown(messages=turns)).messages
    assert [message["content"] for message in seen] == ["hi", "ho", "so"]


async def test_examples_of_arguments_are_shown() -> None:
    conversation = await shown(tools=[TOOL | {"input_examples": [{"city": "Bern"}]}])
    [told] = conversation.tools
    assert told["function"]["description"] == (
        'of a city\n\nExamples of its arguments:\n{"city":"Bern"}'
    )


async def test_managed_context_says_that_nothing_was_left_out() -> None:
    edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    exchange = await ask(context_management=edits, fallbacks="default")
    assert exchange.json["context_management"] == {"applied_edits": []}
    assert "x-unisono-ignored-fields" not in exchange.headers
    assert "context_management" not in (await ask()).json


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": ...}, "Missing required parameter: 'max_tokens'"),
        ({"messages": []}, "'messages': the array is empty"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'messages[0].role'"),
        ({"tools": [{"name": "f"}]}, "'tools[0].input_schema'"),
        ({"tools": [TOOL, TOOL]}, "same name"),
        ({"tool_choice": {"type": "any"}}, "together with 'tools'"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}, "no tool is named 'f'"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "no tool is named ''"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "'tools[0].type'"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "'output_config.f"),
        ({"mcp_servers": [{"type": "url"}]}, "'mcp_servers' is not supported"),
        ({"thread": {"type": "create"}}, "'thread' is not supported"),
        ({"compaction": {"type": "default"}}, "'compaction' is not supported"),
        (
            {"output_config": {"task_budget": {"type": "tokens", "total": 9}}},
            "'output_config.task_budget' is not supported",
        ),
        ({"tools": [TOOL | {"allowed_callers": ["programmatic"]}]}, "'tools[0].allowed_callers'"),
        ({"messages": [{"role": "user"}]}, "'messages[0].content'"),
        (
            {"messages": [changed("tool_removal", "clock")]},
            "'messages[0].content[0].tool.name': no tool is named 'clock'",
        ),
        (
            {
                "tools": [TOOL],
                "messages": [{"role": "user", "content": "x"}, changed("tool_removal", "weather")],
                "tool_choice": {"type": "any"},
            },
            "or was removed",
        ),
        ({"stop_sequences": [""]}, "'stop_sequences[0]'"),
        ({"temperature": 9}, "'temperature'"),
        ({"thinking": {"type": "hard"}}, "'thinking.type'"),
    ],
)
async def test_what_is_not_to_be_had_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    error = await refused(**fields)
    assert error["type"] == "invalid_request_error"
    assert words in error["message"]


async def test_too_long_conversation_says_so_in_anthropics_words() -> None:
    """Agents look for them, and then shorten the conversation."""
    error = await refused(messages=[{"role": "user", "content": "x" * 1000}])
    assert error["message"].startswith("prompt is too long: This model's maximum context length")


@pytest.mark.parametrize(
    ("status", "kind", "fields"),
    [
        (404, "not_found_error", {"model": "claude"}),
        (405, "invalid_request_error", {"method": "DELETE"}),
        (404, "not_found_error", {"path": "/v1/messages/batches"}),
        (413, "request_too_large", {"limits": Limits(max_body_bytes=10)}),
    ],
)
async def test_refusals_have_anthropics_types(
    status: int, kind: str, fields: dict[str, Any]
) -> None:
    exchange = await ask(FakePool(), **fields)
    assert exchange.status == status
    assert exchange.json["error"]["type"] == kind
    assert exchange.json["request_id"] == exchange.headers["request-id"]


async def test_full_queue_is_a_rate_limit() -> None:
    exchange = await ask(FakePool(is_full=True))
    assert (exchange.status, exchange.json["error"]["type"]) == (429, "rate_limit_error")
    assert exchange.headers["retry-after"] == "8"


async def test_unready_server_is_overloaded() -> None:
    pool = FakePool()
    pool.state = type(pool.state)(ready=False, draining=True, stalled=False, groups=[])
    exchange = await ask(pool)
    assert (exchange.status, exchange.json["error"]["type"]) == (529, "overloaded_error")
    assert exchange.headers["x-should-retry"] == "true"


async def test_unknown_fields_are_named_in_a_header() -> None:
    exchange = await ask(colour=1, metadata={"user_id": "me"}, service_tier="auto")
    assert exchange.headers["x-unisono-ignored-fields"] == "colour"
