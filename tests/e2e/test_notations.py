"""Calls and thoughts of the default model, held to grammars in the notation it is told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.clients import openai_client
from tests.e2e.server import Server
from tests.e2e.tool_template import TOOL_TEMPLATE

pytestmark = pytest.mark.e2e

MODEL = "SmolLM2-135M-Instruct"
UNITS = {"enum": ["kelvin", "rankine"]}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": UNITS},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "strict": True, "parameters": SCHEMA}}
]
FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"is_it": {"type": "boolean"}},
            "required": ["is_it"],
            "additionalProperties": False,
        },
    },
}
THINKING_TEMPLATE = TOOL_TEMPLATE.removesuffix("{% endif -%}\n") + (
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}{% endif -%}\n"
)


def call(city: str) -> dict[str, Any]:
    arguments = json.dumps({"city": city, "unit": "kelvin"})
    function = {"name": "weather", "arguments": arguments}
    return {"id": f"call_{city}", "type": "function", "function": function}


def history() -> list[Any]:
    """Return a conversation of four calls, so that a fifth is what comes next."""
    messages: list[Any] = []
    for city in ("Bern", "Rome", "Oslo", "Lima"):
        messages += [
            {"role": "user", "content": f"Weather in {city}?"},
            {"role": "assistant", "content": "", "tool_calls": [call(city)]},
            {"role": "tool", "tool_call_id": f"call_{city}", "content": "280"},
        ]
    return [*messages, {"role": "user", "content": "Weather in Paris?"}]


@pytest.fixture(scope="module")
def thinking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default model with a template that opens a thought."""
    template: Path = tmp_path_factory.mktemp("template") / "thinking.jinja"
    template.write_text(THINKING_TEMPLATE)
    with Server("--chat-template", template) as server:
        yield server


def ask(server: Server, messages: list[Any] | None = None, **fields: Any) -> Any:
    with openai_client(server.url) as client:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=messages or [{"role": "user", "content": "Weather in Paris?"}],
            **{"max_tokens": 120, "temperature": 0, "seed": 1, **fields},
        )
        return list(answer) if fields.get("stream") else answer


def test_model_may_call_where_the_answer_has_a_format(tool_server: Server) -> None:
    """With a response_format the answer was never a call."""
    lean: Any = {"44": 100}  # "<"
    answer = ask(
        tool_server, history(), tools=TOOLS, response_format=FORMAT, logit_bias=lean, max_tokens=80
    )
    [choice] = answer.choices
    assert choice.message.tool_calls or choice.finish_reason == "length"
    assert not choice.message.content
    answer = ask(tool_server, tools=TOOLS, response_format=FORMAT, logit_bias={"44": -100})
    assert set(json.loads(answer.choices[0].message.content)) == {"is_it"}


def test_strict_calls_that_the_model_chooses_obey_their_schema(tool_server: Server) -> None:
    """With tool_choice auto an enum was broken."""
    answer = ask(tool_server, history(), tools=TOOLS, temperature=1, n=4)
    calls = [c for choice in answer.choices for c in choice.message.tool_calls or []]
    for one in calls:
        assert one.function.name == "weather"
        assert json.loads(one.function.arguments)["unit"] in UNITS["enum"]


def test_demanded_call_may_come_with_a_format(tool_server: Server) -> None:
    answer = ask(
        tool_server,
        tools=TOOLS,
        tool_choice="required",
        response_format=FORMAT,
        parallel_tool_calls=False,
    )
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert [one.function.name for one in choice.message.tool_calls][:1] == ["weather"]


@pytest.mark.parametrize("num_tokens", [1, 12, 20])
def test_call_cut_short_shows_no_markup(tool_server: Server, num_tokens: int) -> None:
    fields: Any = {"tools": TOOLS, "tool_choice": "required", "max_tokens": num_tokens}
    [choice] = ask(tool_server, **fields).choices
    assert choice.finish_reason == "length"
    assert not choice.message.content and not choice.message.tool_calls
    chunks = ask(tool_server, stream=True, **fields)
    assert not any(chunk.choices[0].delta.content for chunk in chunks if chunk.choices)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_call_cut_by_a_stop_string_shows_no_markup(tool_server: Server) -> None:
    fields: Any = {"tools": TOOLS, "tool_choice": "required", "stop": ["unit"]}
    [choice] = ask(tool_server, **fields).choices
    assert choice.finish_reason == "stop"
    assert not choice.message.content and not choice.message.tool_calls


@pytest.mark.parametrize("budget", [0, 7, 40])
def test_thought_ends_when_it_has_had_its_tokens(thinking_server: Server, budget: int) -> None:
    answer = ask(thinking_server, max_tokens=60, extra_body={"thinking_token_budget": budget})
    [choice] = answer.choices
    mark = 4  # the tokens of "</think>" in this vocabulary, about
    assert budget <= answer.usage.completion_tokens_details.reasoning_tokens <= budget + 2 * mark
    assert choice.message.content and "think>" not in choice.message.content
    assert bool(getattr(choice.message, "reasoning", "")) == (budget > 0)


def test_format_begins_after_the_thought(thinking_server: Server) -> None:
    answer = ask(thinking_server, response_format=FORMAT, extra_body={"thinking_token_budget": 10})
    [choice] = answer.choices
    assert set(json.loads(choice.message.content)) == {"is_it"}
    assert choice.message.reasoning


def test_demanded_call_comes_after_the_thought(thinking_server: Server) -> None:
    answer = ask(
        thinking_server,
        tools=TOOLS,
        tool_choice="required",
        extra_body={"thinking_token_budget": 10},
    )
    [choice] = answer.choices
    assert choice.message.reasoning and not choice.message.content
    assert choice.message.tool_calls[0].function.name == "weather"


def test_effort_none_thinks_not_at_all(thinking_server: Server) -> None:
    answer = ask(thinking_server, reasoning_effort="none", max_tokens=8)
    assert getattr(answer.choices[0].message, "reasoning", None) is None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
