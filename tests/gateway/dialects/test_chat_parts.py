"""Thoughts and calls in chat's answers, whole and streamed, in several notations."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.notations.compiled import compiled
from gateway.notations.library import builtin
from gateway.notations.served import ServedNotation
from tests.gateway.endpoints.test_chat import (
    CALL,
    LENGTH,
    STOP,
    TOOLS,
    FakeValidator,
    app_of,
    ask,
    playing,
)
from tests.gateway.fake_template import FakeTemplate, fake_templates
from tests.gateway.fakes import BOS, FakePool, make_service, settle

if TYPE_CHECKING:
    from gateway.sandbox.grammar_validator import GrammarValidator

THINK = ("hermes", "think")


async def answered(
    text: bytes,
    finish: FinishReason = STOP,
    notation: tuple[str, str] = ("hermes", ""),
    **fields: Any,
) -> tuple[dict[str, Any], list[Any]]:
    """Return a whole answer, and the chunks of the same one streamed."""
    calls, reasoning = notation
    form = compiled(builtin(calls), builtin(reasoning) if reasoning else None)

    async def exchange(**more: Any) -> Any:
        service = replace(
            make_service(playing(text, finish)),
            chat_templates=fake_templates(default=FakeTemplate()),
            notation=ServedNotation(form),
        )
        fields.setdefault("max_tokens", 900)
        return await ask(create_app(service), **fields, **more).finished()

    whole: dict[str, Any] = (await exchange()).json
    streamed = await exchange(stream=True, stream_options={"include_usage": True})
    assert streamed.chunks[-1]["usage"] == whole["usage"]
    return whole, [chunk for chunk in streamed.chunks if chunk["choices"]]


def joined(chunks: list[Any], name: str) -> str:
    return "".join(chunk["choices"][0]["delta"].get(name) or "" for chunk in chunks)


async def test_thought_has_both_names_and_is_counted() -> None:
    whole, chunks = await answered(b"<think>\nHm.\n</think>\n\nYes", notation=THINK)
    message = whole["choices"][0]["message"]
    for name in ("reasoning_content", "reasoning"):
        assert message[name] == joined(chunks, name) == "Hm."
    assert message["content"] == joined(chunks, "content") == "Yes"
    # One token a byte here; the marks count.
    num_thoughts = len(b"<think>\nHm.\n</think>")
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": num_thoughts}


async def test_answer_goes_on_where_the_prompt_left_a_thought() -> None:
    messages = [{"role": "user", "content": "hi<think>\n"}]
    whole, chunks = await answered(b"Hm.</think>Yes", notation=THINK, messages=messages)
    assert whole["choices"][0]["message"]["reasoning"] == joined(chunks, "reasoning") == "Hm."
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": len("Hm.</think>")}


async def test_models_that_do_not_think_count_no_thoughts() -> None:
    whole, _ = await answered(b"<think>a</think>b")
    assert "completion_tokens_details" not in whole["usage"]
    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": "<think>a</think>b",
        "refusal": None,
    }


@pytest.mark.parametrize("length", range(len(CALL)))
async def test_call_cut_by_max_tokens_shows_no_markup(length: int) -> None:
    """It showed its beginning as content, or was called with broken arguments."""
    whole, chunks = await answered(b"Hm. " + CALL[:length], LENGTH, tools=TOOLS)
    [choice] = whole["choices"]
    is_complete = b"}}" in CALL[:length] or CALL[:length].endswith(b"}")
    assert choice["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert (
        (choice["message"]["content"] or "").strip() == joined(chunks, "content").strip() == "Hm."
    )
    assert ("tool_calls" in choice["message"]) == is_complete


async def test_call_cut_by_a_stop_string_shows_no_markup() -> None:
    whole, chunks = await answered(CALL, tools=TOOLS, stop=["Ber"])
    [choice] = whole["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "Ber")
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert choice["message"]["content"] == joined(chunks, "content") == ""
    assert "tool_calls" not in choice["message"]
    deltas = [c["choices"][0]["delta"].get("tool_calls", [{}])[0] for c in chunks]
    arguments = [delta["function"]["arguments"] for delta in deltas if delta]
    assert "".join(arguments) == '{"city": "'


async def test_calls_of_other_notations_are_calls() -> None:
    text = (
        "<tool_call>\n<function=weather>\n<parameter=city>\nBern\n</parameter>\n</function>"
        "\n</tool_call>"
    )
    whole, _ = await answered(text.encode(), notation=("qwen3-coder", ""), tools=TOOLS)
    [choice] = whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    [call] = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Bern"}'}


async def test_messages_in_channels_are_told_apart_without_tools() -> None:
    text = b"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Y"
    whole, chunks = await answered(text, notation=("harmony", "harmony"))
    message = whole["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("Hm.", "Y")
    assert (joined(chunks, "reasoning"), joined(chunks, "content")) == ("Hm.", "Y")
    num_thoughts = text.index(b"<|end|>") + len(b"<|end|>")
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": num_thoughts}


@pytest.mark.parametrize(("keeps", "told"), [(False, "ab"), (True, "ab<s>")])
async def test_stop_string_that_is_a_special_token_stops_by_its_id(keeps: bool, told: str) -> None:
    """Special tokens are no text, so it was never found in it."""
    pool = FakePool()
    app = app_of(pool)
    exchange = ask(app, stop=["<s>", "</s>"], include_stop_str_in_output=keeps)
    await settle()
    assert pool.submitted[0].params.stop_token_ids == (BOS,)
    pool.send(0, b"ab")
    pool.send(0, [BOS], STOP, stop_token_id=BOS)
    [choice] = (await exchange.finished()).json["choices"]
    assert choice["message"]["content"] == told
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "<s>")


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_allowed_tools_are_all_that_may_be_called(mode: str) -> None:
    template, pool = FakeTemplate(), playing(CALL)
    service = replace(
        make_service(pool, grammar_validator=cast("GrammarValidator", FakeValidator())),
        chat_templates=fake_templates(default=template),
    )
    names = [{"type": "function", "function": {"name": "weather"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": names}}
    tools = [*TOOLS, {"type": "function", "function": {"name": "time"}}]
    exchange = await ask(create_app(service), tools=tools, tool_choice=choice).finished()
    assert exchange.json["choices"][0]["finish_reason"] == "tool_calls"
    assert len(template.seen[0].tools or []) == 2
    grammar = pool.submitted[0].params.grammar
    assert grammar is not None and "weather" in grammar.text and "time" not in grammar.text
    assert ("TEXT" in grammar.text) == (mode == "auto")
    names[0]["function"] = {"name": "nobody"}
    refused = await ask(create_app(service), tools=tools, tool_choice=choice).finished()
    assert "no tool is named 'nobody'" in refused.error["message"]


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<think>hm\n</think>\n\nWéll. ", "Wéll. "),
        ("<think>hm <tool_call> </think>a<b", "a<b"),
        ("<think>hm", ""),
        ("a", "a"),
    ],
)
async def test_scores_leave_thoughts_out(text: str, content: str) -> None:
    """The tokens of a thought were listed with the content."""
    whole, chunks = await answered(text.encode(), notation=THINK, logprobs=True)
    entries = whole["choices"][0]["logprobs"]["content"]
    assert bytes(byte for entry in entries for byte in entry["bytes"]) == content.encode()
    pieces = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    scored = [entry for piece in pieces for entry in (piece["logprobs"] or {}).get("content", [])]
    assert scored == entries
