"""POST /v1/chat/completions over a pool and a template played by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp

from backend.wire.messages import FinishReason
from backend.wire.sampling import Grammar
from gateway.app import create_app
from gateway.dialects.chat import read_chat
from gateway.sampling_defaults import SamplingDefaults
from gateway.sandbox.chat_template import TemplateBusy, TemplateFailure
from gateway.sandbox.chat_templates import ChatTemplates
from gateway.schema.chat import ChatRequest
from gateway.service import Limits
from tests.gateway.fake_template import FakeTemplate, fake_templates, switched
from tests.gateway.fakes import Exchange, FakePool, make_service, settle

if TYPE_CHECKING:
    from gateway.sandbox.grammar_validator import GrammarValidator

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
EOS = b"."  # the last token of a sequence that stops is no text
CALL = b'<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def app_of(
    pool: FakePool,
    template: FakeTemplate | None = None,
    sampling: SamplingDefaults | None = None,
    templates: ChatTemplates | None = None,
    **limits: Any,
) -> ASGIApp:
    service = make_service(pool, limits=Limits(**limits))
    templates = templates or fake_templates(default=template or FakeTemplate())
    sampling = sampling or SamplingDefaults()
    return create_app(replace(service, chat_templates=templates, sampling_defaults=sampling))


def ask(app: ASGIApp, **fields: Any) -> Exchange:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}
    return Exchange(app, "POST", "/v1/chat/completions", msgspec.json.encode(body))


async def answer(pool: FakePool, template: FakeTemplate | None = None, **fields: Any) -> Exchange:
    """Return the finished exchange of one request."""
    return await ask(app_of(pool, template), **fields).finished()


def playing(text: bytes, finish: FinishReason = STOP) -> FakePool:
    return FakePool(script=(text + EOS if finish is STOP else text, finish))


async def refused(**fields: Any) -> dict[str, Any]:
    pool = FakePool()
    exchange = await answer(pool, **fields)
    assert exchange.status == 400, exchange.body
    assert not pool.submitted
    return exchange.error


def assembled(chunks: Sequence[Any]) -> dict[int, dict[str, Any]]:
    """Put the messages of a stream together, as clients do."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for piece in chunk["choices"]:
            choice = choices.setdefault(piece["index"], {"content": "", "calls": [], "scores": []})
            delta = piece["delta"]
            assert choice.get("finish") is None
            choice["content"] += delta.get("content") or ""
            choice["scores"] += (piece["logprobs"] or {}).get("content") or []
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    assert call["type"] == "function" and call["index"] == len(choice["calls"])
                    choice["calls"].append([call["function"]["name"], ""])
                choice["calls"][call["index"]][1] += call["function"]["arguments"]
            choice["finish"] = piece["finish_reason"]
    return choices


async def test_answer_has_openais_shape() -> None:
    exchange = await answer(playing(b"hello"))
    body = exchange.json
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", "tiny")
    [choice] = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "hello", "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert body["usage"]["prompt_tokens"] == 2
    assert body["usage"]["completion_tokens"] == 6
    assert "server-timing" in exchange.headers


async def test_stream_begins_with_the_role_and_ends_with_the_reason() -> None:
    exchange = await answer(playing(b"hey"), stream=True, stream_options={"include_usage": True})
    *chunks, last = exchange.chunks
    assert {chunk["object"] for chunk in exchange.chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert deltas[1:] == [{"content": "h"}, {"content": "e"}, {"content": "y"}, {}]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * 4 + ["stop"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 6
    assert exchange.events[-1] == b"[DONE]"


async def test_several_choices_have_each_their_role_and_end() -> None:
    pool = playing(b"ab", LENGTH)
    choices = assembled((await answer(pool, stream=True, n=3, max_tokens=2)).chunks)
    assert {i: (c["content"], c["finish"]) for i, c in choices.items()} == {
        i: ("ab", "length") for i in range(3)
    }
    assert len({s.params.choice for s in pool.submitted.values()}) == 3


async def test_scores_have_bytes_and_the_alternatives_asked_for() -> None:
    pool = playing("é".encode(), LENGTH)
    whole = (await answer(pool, logprobs=True, top_logprobs=2, max_tokens=2)).json
    entries = whole["choices"][0]["logprobs"]["content"]
    assert [entry["bytes"] for entry in entries] == [[0xC3], [0xA9]]
    assert [top["token"] for top in entries[0]["top_logprobs"]] == ["A", "B"]
    assert entries[0]["logprob"] == -2.0
    streamed = await answer(
        playing("é".encode(), LENGTH), logprobs=True, top_logprobs=2, max_tokens=2, stream=True
    )
    assert assembled(streamed.chunks)[0]["scores"] == entries
    plain = (await answer(playing(b"a", LENGTH), logprobs=True, max_tokens=1)).json
    assert plain["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


async def test_answer_without_limit_may_fill_context_or_memory() -> None:
    pool = playing(b"a")
    await answer(pool)
    assert pool.submitted[0].params.max_tokens == 998
    small = playing(b"a")
    small.kv_sequence_tokens = 100
    await answer(small)
    assert small.submitted[0].params.max_tokens == 98


async def test_answer_without_limit_has_the_models_own() -> None:
    for limit, longest in ((7, 7), (5000, 998)):
        pool = playing(b"a")
        await ask(app_of(pool, sampling=SamplingDefaults(max_new_tokens=limit))).finished()
        assert pool.submitted[0].params.max_tokens == longest
    pool = playing(b"a")
    app = app_of(pool, sampling=SamplingDefaults(max_new_tokens=7))
    await ask(app, max_tokens=9).finished()
    assert pool.submitted[0].params.max_tokens == 9


async def test_newer_name_of_max_tokens_goes_first() -> None:
    pool = playing(b"a")
    await answer(pool, max_tokens=5, max_completion_tokens=7)
    assert pool.submitted[0].params.max_tokens == 7


@pytest.mark.parametrize(
    ("num_chars", "fields", "param"),
    [
        (1001, {}, "messages"),
        (1000, {}, "messages"),
        (10, {"max_tokens": 991}, "max_tokens"),
        (10, {"max_completion_tokens": 991}, "max_completion_tokens"),
    ],
)
async def test_conversation_beyond_the_context_is_refused(
    num_chars: int, fields: dict[str, Any], param: str
) -> None:
    """The error once named max_tokens where max_completion_tokens had been sent."""
    error = await refused(messages=[{"role": "user", "content": "x" * num_chars}], **fields)
    assert (error["param"], error["code"]) == (param, "context_length_exceeded")


async def test_parts_are_joined_and_arguments_are_an_object() -> None:
    template = FakeTemplate()
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    (
        await answer(
            playing(b"a"),
            template,
            messages=[
                {"role": "developer", "content": "brief"},
                {"role": "user", "content": parts, "name": "ann"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "2", "tool_call_id": "c1"},
            ],
        )
    )
    [conversation] = template.seen
    function = {"name": "f", "arguments": {"a": 1}}
    assert conversation.messages == [
        {"role": "developer", "content": "brief"},
        {"role": "user", "content": "one two", "name": "ann"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    assert conversation.add_generation_prompt and conversation.tools is None


async def test_tool_calls_are_found_in_whole_and_streamed_answers() -> None:
    template = FakeTemplate()
    whole = (await answer(playing(b"Well. " + CALL), template, tools=TOOLS)).json["choices"][0]
    assert whole["message"]["content"] == "Well."
    [call] = whole["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert whole["finish_reason"] == "tool_calls"
    assert template.seen[0].tools == TOOLS
    streamed = assembled((await answer(playing(CALL), tools=TOOLS, stream=True)).chunks)[0]
    assert streamed["calls"] == [["weather", '{"city": "Bern"}']]
    assert (streamed["content"], streamed["finish"]) == ("", "tool_calls")


async def test_tool_choice_none_hides_the_tools_and_parses_nothing() -> None:
    template = FakeTemplate()
    choice = (await answer(playing(CALL), template, tools=TOOLS, tool_choice="none")).json[
        "choices"
    ][0]
    assert choice["message"]["content"] == CALL.decode()
    assert template.seen[0].tools is None


async def test_template_without_tools_is_said_to_have_none() -> None:
    exchange = await answer(playing(b"a"), FakeTemplate(supports_tools=False), tools=TOOLS)
    assert exchange.status == 400
    assert exchange.error["param"] == "tools"


class FakeValidator:
    """Finds every grammar good; of schemas, all but their `not`."""

    async def validate(self, grammar: Grammar) -> Grammar:
        return grammar

    async def validate_schema(self, grammar: Grammar) -> tuple[Grammar, Sequence[str]]:
        return grammar, ["not"] if '"not"' in grammar.text else []


@pytest.mark.parametrize(
    ("tool_choice", "finish"),
    [
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "weather"}}, "stop"),
    ],
)
async def test_required_call_is_held_to_a_grammar(tool_choice: Any, finish: str) -> None:
    """As OpenAI has it, an answer that could be nothing but one call ends with `stop`."""
    pool = playing(CALL)
    tools = [*TOOLS, {"type": "function", "function": {"name": "time"}}]
    service = replace(
        make_service(pool, grammar_validator=cast("GrammarValidator", FakeValidator())),
        chat_templates=fake_templates(default=FakeTemplate()),
    )
    choice = (await ask(create_app(service), tools=tools, tool_choice=tool_choice).finished()).json[
        "choices"
    ][0]
    assert choice["finish_reason"] == finish
    assert choice["message"]["content"] is None
    grammar = pool.submitted[0].params.grammar
    assert grammar is not None and grammar.kind == "lark"
    assert "weather" in grammar.text
    assert ("time" in grammar.text) == (tool_choice == "required")


async def test_what_is_not_enforced_is_told_in_a_header() -> None:
    pool = playing(CALL)
    service = replace(
        make_service(pool, grammar_validator=cast("GrammarValidator", FakeValidator())),
        chat_templates=fake_templates(default=FakeTemplate()),
    )
    app = create_app(service)
    function = {"name": "time", "parameters": {"not": {}}}
    tools = [*TOOLS, {"type": "function", "function": function}]
    exchange = await ask(app, tools=tools, tool_choice="required").finished()
    told = "tools[1].function.parameters.not"
    assert exchange.headers["x-unisono-not-enforced"] == told
    schema = {"name": "n", "schema": {"not": {}}}
    for stream in (True, False):
        response_format = {"type": "json_schema", "json_schema": schema}
        exchange = await ask(app, response_format=response_format, stream=stream).finished()
        told = "response_format.json_schema.schema.not"
        assert exchange.headers["x-unisono-not-enforced"] == told
    exchange = await ask(app, tools=TOOLS, tool_choice="required").finished()
    assert "x-unisono-not-enforced" not in exchange.headers


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("scores", [True, False])
async def test_answer_that_breaks_its_schema_is_not_handed_out(stream: bool, scores: bool) -> None:
    """Read, it has the second value, which no grammar may have looked at."""
    properties = {"age": {"type": "integer"}}
    schema = {"name": "n", "schema": {"type": "object", "properties": properties}}
    fields = {
        "response_format": {"type": "json_schema", "json_schema": schema},
        "stream": stream,
        "logprobs": scores,
    }
    for text, is_broken in ((b'{"age":1,"age":2}', True), (b'{"age":1,"b":2,"b":3}', False)):
        pool = playing(text)
        validator = cast("GrammarValidator", FakeValidator())
        service = replace(
            make_service(pool, grammar_validator=validator),
            chat_templates=fake_templates(default=FakeTemplate()),
        )
        exchange = await ask(create_app(service), **fields).finished()
        if stream:
            last = exchange.events[-1]
            assert (last != b"[DONE]") is is_broken
            error = msgspec.json.decode(last)["error"] if is_broken else None
        else:
            assert exchange.status == (500 if is_broken else 200)
            error = exchange.error if is_broken else None
        assert error is None or error["code"] == "schema_broken"
        assert not pool.running


@pytest.mark.parametrize(
    ("text", "fields", "content", "scored"),
    [
        (b"hey", {}, "hey", "hey"),
        (b"hey EN END more", {"stop": "END"}, "hey EN ", "hey EN "),
        ("é".encode(), {}, "é", "é"),
        (b"Well. " + CALL, {"tools": TOOLS}, "Well.", "Well."),
        (CALL, {"tools": TOOLS}, None, ""),
    ],
)
async def test_scores_are_of_the_content(
    text: bytes, fields: dict[str, Any], content: str | None, scored: str
) -> None:
    """The token that ended the answer had one, too, and so had those of calls."""
    whole = (await answer(playing(text), logprobs=True, **fields)).json["choices"][0]
    assert whole["message"]["content"] == content
    entries = whole["logprobs"]["content"]
    assert bytes(byte for entry in entries for byte in entry["bytes"]) == scored.encode()
    streamed = await answer(playing(text), logprobs=True, stream=True, **fields)
    assert assembled(streamed.chunks)[0]["scores"] == entries


CUT = st.sampled_from([b"hi ", b"\n", CALL, b"<tool", b"<|x", "é".encode(), b"END", b"EN"])


@given(st.lists(CUT, max_size=5).map(b"".join), st.booleans(), st.booleans())
async def test_streamed_and_whole_answers_are_the_same(
    text: bytes, has_tools: bool, has_scores: bool
) -> None:
    fields: dict[str, Any] = {"stop": "END", "max_tokens": 900, "logprobs": has_scores}
    if has_tools:
        fields["tools"] = TOOLS
    whole = (await answer(playing(text), **fields)).json["choices"][0]
    streamed = assembled((await answer(playing(text), stream=True, **fields)).chunks)[0]
    message = whole["message"]
    calls = [
        [call["function"]["name"], call["function"]["arguments"]]
        for call in message.get("tool_calls", [])
    ]
    assert streamed["content"] == (message["content"] or "")
    assert streamed["calls"] == calls
    assert streamed["finish"] == whole["finish_reason"]
    assert streamed["scores"] == ((whole["logprobs"] or {}).get("content") or [])


USER = {"role": "user", "content": "hi"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0]",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"bos_token": "x"}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"__class__": 1}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"x" * 65: 1}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {f"x{n}": n for n in range(33)}}, "chat_template_kwargs"),
    ({"chat_template_kwargs": [1]}, "chat_template_kwargs"),
    ({"chat_template_kwargs": "enable_thinking"}, "chat_template_kwargs"),
    ({"chat_template": "tool_use"}, "chat_template"),
    ({"reasoning_effort": "x" * 65}, "reasoning_effort"),
    ({"enable_thinking": True, "thinking": {"type": "disabled"}}, "enable_thinking"),
    ({"thinking_budget": 1, "thinking_token_budget": 2}, "thinking_budget"),
    ({"thinking": {"type": "sometimes"}}, "thinking.type"),
    ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "reasoning_effort"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"functions": [{"name": "f"}], "tools": TOOLS}, "functions"),
    ({"functions": [{"name": "f"}, {"name": "f"}]}, "functions"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call"),
    ({"functions": [{"name": "f"}], "function_call": "required"}, "function_call"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"function_call": "auto"}, "function_call"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "auto", "tools": []}, "tool_choice"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls"),
    ({"parallel_tool_calls": False, "tools": []}, "parallel_tool_calls"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"top_logprobs": 1}, "top_logprobs"),
    ({"top_logprobs": 1, "logprobs": False}, "top_logprobs"),
    ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
    (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
    ),
    ({"tools": TOOLS * 2}, "tools"),
    ({"tools": TOOLS, "tool_choice": "always"}, "tool_choice"),
    ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
    ({"min_tokens": 5, "max_completion_tokens": 2}, "min_tokens"),
    ({"n": 129}, "n"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
async def test_nonsense_is_a_400_that_names_the_field(fields: dict[str, Any], param: str) -> None:
    assert (await refused(**fields))["param"] == param


async def test_fields_that_change_nothing_are_accepted_without_a_word() -> None:
    exchange = await answer(
        playing(b"a"),
        metadata={"a": "b"}, store=True, service_tier="auto", user="u", verbosity="low",
        safety_identifier="s", prompt_cache_key="k", modalities=["text"],
    )  # fmt: skip
    assert exchange.status == 200
    assert "x-unisono-ignored-fields" not in exchange.headers


async def test_functions_that_must_not_be_called_change_nothing() -> None:
    """They were refused, whatever function_call said: openai-python's suite sends "none"."""
    template = FakeTemplate()
    exchange = await answer(
        playing(b"a"), template, functions=[{"name": "f"}], function_call="none", tools=[]
    )
    assert exchange.status == 200
    assert template.seen[0].tools is None
    fields = {"functions": [{"name": "f"}], "function_call": "none", "tools": TOOLS}
    choice = (await answer(playing(CALL), template, **fields)).json["choices"][0]
    assert template.seen[1].tools == TOOLS
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"


async def test_functions_not_to_be_called_may_stand_beside_tools() -> None:
    """openai-python's suite sends both, to be called neither."""
    template = FakeTemplate()
    fields: dict[str, Any] = {"functions": [{"name": "f"}], "function_call": "none"}
    both = fields | {"tools": TOOLS, "tool_choice": "auto"}
    choice = (await answer(playing(CALL), template, **both)).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["tool_calls"]
    assert template.seen[0].tools == TOOLS


async def test_functions_are_tools_in_the_older_form() -> None:
    function = {"name": "weather", "parameters": {"type": "object"}}
    template = FakeTemplate()
    fields: dict[str, Any] = {"functions": [function], "function_call": "auto"}
    whole = (await answer(playing(b"Well. " + CALL + CALL), template, **fields)).json["choices"][0]
    call = {"name": "weather", "arguments": '{"city": "Bern"}'}
    assert whole["message"]["function_call"] == call
    assert "tool_calls" not in whole["message"] and whole["finish_reason"] == "function_call"
    assert template.seen[0].tools == [{"type": "function", "function": function}]
    plain = (await answer(playing(b"Hi"), **fields)).json["choices"][0]
    assert "function_call" not in plain["message"] and plain["finish_reason"] == "stop"


async def test_streamed_function_call_comes_as_older_clients_read_it() -> None:
    pool = playing(CALL)
    service = replace(
        make_service(pool, grammar_validator=cast("GrammarValidator", FakeValidator())),
        chat_templates=fake_templates(default=FakeTemplate()),
    )
    exchange = await ask(
        create_app(service),
        functions=[{"name": "weather"}, {"name": "time"}],
        function_call={"name": "weather"},
        stream=True,
    ).finished()
    deltas = [chunk["choices"][0]["delta"] for chunk in exchange.chunks]
    calls = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert [call["name"] for call in calls if "name" in call] == ["weather"]
    assert "".join(call["arguments"] for call in calls) == '{"city": "Bern"}'
    assert not any("tool_calls" in delta for delta in deltas)
    assert exchange.chunks[-1]["choices"][0]["finish_reason"] == "stop"  # it had no choice
    grammar = pool.submitted[0].params.grammar
    assert grammar is not None and "weather" in grammar.text and "time" not in grammar.text


async def test_template_failure_is_a_400_or_a_429_with_a_delay() -> None:
    failing = await answer(
        FakePool(), FakeTemplate(failure=TemplateFailure("roles must alternate"))
    )
    assert failing.status == 400
    assert failing.error["code"] == "chat_template_error"
    assert "roles must alternate" in failing.error["message"]
    busy = await answer(FakePool(), FakeTemplate(failure=TemplateBusy()))
    assert busy.status == 429
    assert "retry-after" in busy.headers


def effort(word: str, of_kimi: str = "") -> dict[str, Any]:
    """The variables of an effort; Kimi K3 has a word of its own, and knows three."""
    return {"reasoning_effort": word, "thinking_effort": of_kimi or word}


async def test_templates_variables_are_the_requests_then_the_servers() -> None:
    template = FakeTemplate()
    templates = fake_templates({"enable_thinking": False, "date_string": "today"}, default=template)
    app = app_of(playing(b"a"), templates=templates)
    for fields in (
        {},
        {"chat_template_kwargs": {"enable_thinking": True, "python_tools": ["a"]}},
        {"reasoning_effort": "none"},
        {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}},
        {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}},
        {"reasoning_effort": "medium"},
        {"reasoning_effort": "xhigh", "chat_template_kwargs": {"thinking_effort": "low"}},
    ):
        assert (await ask(app, **fields).finished()).status == 200
    date = {"date_string": "today"}
    assert [conversation.options for conversation in template.seen] == [
        date | {"enable_thinking": False},
        date | {"enable_thinking": True, "python_tools": ["a"]},
        date | switched("disabled", **effort("none")),
        date | {"enable_thinking": False, **effort("low")},
        date | switched("adaptive", **effort("low")),  # vLLM: the field wins
        date | switched("adaptive", **effort("medium", "high")),
        date | switched("adaptive", **effort("xhigh", "low")),
    ]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"thinking": {"type": "enabled", "clear_thinking": False}}, switched("enabled")),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, switched("disabled")),
        ({"thinking": {"type": "auto"}}, switched("adaptive")),
        ({"thinking": False}, switched("disabled")),
        ({"enable_thinking": True, "reasoning_effort": "none"}, switched("enabled")),
        (
            {"enable_thinking": False, "chat_template_kwargs": {"thinking": True}},
            {"thinking": True},
        ),
        ({"thinking_budget": 9}, {"thinking_budget": 9}),
        ({"reasoning": {"effort": "low"}}, switched("adaptive", **effort("low"))),
        (
            {"reasoning": {"enabled": True, "max_tokens": 9}},
            switched("enabled", thinking_budget=9),
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            switched("enabled", thinking_budget=9),
        ),
    ],
)
async def test_words_of_other_servers_turn_thinking_on_and_off(
    fields: dict[str, Any], options: dict[str, Any]
) -> None:
    """They were ignored, though another answer was asked for."""
    template = FakeTemplate()
    exchange = await answer(playing(b"a"), template, **fields)
    assert exchange.status == 200
    assert "x-unisono-ignored-fields" not in exchange.headers
    [seen] = template.seen
    word = fields.get("reasoning_effort")
    assert seen.options == options | (effort(word) if word else {})


@pytest.mark.parametrize("name", ["thinking_budget", "thinking_token_budget", "thinking"])
def test_budget_of_a_thought_has_three_names(name: str) -> None:
    value = {"type": "enabled", "budget_tokens": 5} if name == "thinking" else 5
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], name: value}
    assert read_chat(msgspec.convert(body, ChatRequest)).max_thought_tokens == 5


async def test_template_for_tools_is_taken_for_tools_or_by_name() -> None:
    plain, with_tools = FakeTemplate(supports_tools=False), FakeTemplate()
    templates = fake_templates(default=plain, tool_use=with_tools)
    app = app_of(playing(b"a"), templates=templates)
    for fields, counts in (
        ({}, (1, 0)),
        ({"tools": TOOLS}, (1, 1)),
        ({"tools": TOOLS, "tool_choice": "none"}, (2, 1)),
        ({"chat_template": "tool_use"}, (2, 2)),
    ):
        assert (await ask(app, **fields).finished()).status == 200
        assert (len(plain.seen), len(with_tools.seen)) == counts
    refusal = (await ask(app, chat_template="{{ 1 }}").finished()).error
    assert "it has: default, tool_use" in refusal["message"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_what_was_thought_reaches_the_template_by_both_names(field: str) -> None:
    template = FakeTemplate()
    messages = [{"role": "assistant", "content": "x", field: "hm"}, USER]
    assert (await answer(playing(b"a"), template, messages=messages)).status == 200
    first = template.seen[0].messages[0]
    assert (first["reasoning_content"], first["thinking"]) == ("hm", "hm")


async def test_model_without_a_template_says_so() -> None:
    exchange = await ask(create_app(make_service(FakePool()))).finished()
    assert exchange.status == 400
    assert exchange.error["code"] == "no_chat_template"


async def test_client_that_leaves_frees_its_sequences() -> None:
    async def scenario(*, streams: bool) -> FakePool:
        pool = FakePool()
        exchange = ask(app_of(pool), stream=streams, n=2)
        await settle()
        pool.play(0, b"ab")
        exchange.leave()
        await settle()
        await exchange.finished()
        return pool

    for streams in (True, False):
        assert (await scenario(streams=streams)).running == set()
