"""Turns and blocks as a template is shown them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.anthropic_turns import system_message, turn_messages
from gateway.errors import ApiError
from gateway.schema.anthropic import AnthropicMessage, Block

BILLING = "x-anthropic-billing-header: cc_version=2.1.36.7f1; cc_entrypoint=cli; cch=%s;"


def turns(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of some turns, without the fields that are not set."""
    given = [{"role": role, "content": content} for role, content in turns]
    messages = turn_messages(msgspec.convert(given, list[AnthropicMessage]))
    told = []
    for message in messages:
        fields = msgspec.to_builtins(message)
        told.append({name: value for name, value in fields.items() if value is not None})
    return told


def text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_results_of_tools_are_messages_of_their_own() -> None:
    results: list[dict[str, Any]] = [
        {"type": "tool_result", "tool_use_id": "a", "content": "3 C"},
        {"type": "tool_result", "tool_use_id": "b", "content": [text("one"), text("two")]},
        {"type": "tool_result", "tool_use_id": "c"},
    ]
    assert turns(("user", [*results, text("and now?")])) == [
        {"role": "tool", "tool_call_id": "a", "content": "3 C"},
        {"role": "tool", "tool_call_id": "b", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "user", "content": "and now?"},
    ]


def test_model_is_told_that_a_tool_failed() -> None:
    result = {"type": "tool_result", "tool_use_id": "a", "is_error": True}
    [failed] = turns(("user", [{**result, "content": "no such file"}]))
    assert failed["content"] == "Error: no such file"
    [plain] = turns(("user", [{**result, "content": "<tool_use_error>no</tool_use_error>"}]))
    assert plain["content"] == "<tool_use_error>no</tool_use_error>"


def test_assistant_has_thoughts_text_and_calls() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Where?", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        text("Let me "),
        text("see."),
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Bern"}},
    ]
    [message] = turns(("assistant", blocks))
    [call] = message.pop("tool_calls")
    assert message == {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "Where?",
    }
    assert call["id"] == "a" and call["function"]["name"] == "weather"
    assert msgspec.json.decode(call["function"]["arguments"]) == {"city": "Bern"}


def test_neighbours_of_one_role_are_one_turn() -> None:
    asked = turns(("user", "one"), ("user", [text("two\n"), text("three")]), ("assistant", "four"))
    assert asked == [
        {"role": "user", "content": "one\ntwo\nthree"},
        {"role": "assistant", "content": "four"},
    ]


def test_documents_and_results_of_searches_are_text() -> None:
    document = {
        "type": "document",
        "title": "Notes",
        "source": {"type": "text", "media_type": "text/plain", "data": "It rains."},
    }
    parts = [{"type": "text", "text": "Snow."}]
    inner = {"type": "document", "source": {"type": "content", "content": parts}}
    result = {"type": "search_result", "source": "sky.org", "title": "Sky", "content": parts}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    messages = turns(
        ("user", [document]),
        ("assistant", [call]),
        ("user", [{"type": "tool_result", "tool_use_id": "a", "content": [inner, result]}]),
    )
    assert messages[0]["content"] == (
        "<document>\n<source>Notes</source>\n<document_content>\nIt rains.\n</document_content>\n"
        "</document>"
    )
    assert messages[2]["content"].count("Snow.") == 2
    assert "<source>Sky (sky.org)</source>" in messages[2]["content"]


def test_summary_of_another_server_is_text() -> None:
    summary = {"type": "compaction", "content": "They spoke of rain.", "signature": "x"}
    failed = {"type": "compaction", "content": None}
    hop = {"type": "fallback", "to": {"model": "other"}}
    [said] = turns(("assistant", [summary, failed, hop, text(" Yes.")]))
    assert said["content"] == "They spoke of rain. Yes."


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ({"type": "image", "source": {}}, "messages[1].content[1]"),
        ({"type": "document", "source": {}}, "messages[1].content[1]"),
        ({"type": "text"}, "messages[1].content[1].text"),
        ({"type": "tool_result"}, "messages[1].content[1].tool_use_id"),
        (
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]},
            "messages[1].content[1].content[0]",
        ),
    ],
)
def test_what_is_no_text_is_refused_by_place(block: dict[str, Any], where: str) -> None:
    with pytest.raises(ApiError, match=r"reads text only|Missing required") as refused:
        turns(("assistant", "hi"), ("user", [text("see"), block]))
    assert f"'{where}'" in refused.value.message
    assert refused.value.param == "messages"


@pytest.mark.parametrize("missing", ["id", "name"])
def test_call_without_name_or_id_is_refused(missing: str) -> None:
    call = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    del call[missing]
    with pytest.raises(ApiError, match=rf"content\[0\].{missing}"):
        turns(("assistant", [call]))


@pytest.mark.parametrize(
    "system",
    [
        BILLING + "\nYou are a coder.",
        "You are a coder.\n" + BILLING,
        [text(BILLING), text("You are a coder.")],
        [text(BILLING + "\n"), text("You are a coder.")],
    ],
)
def test_billing_line_is_not_part_of_the_prompt(system: Any) -> None:
    told = []
    for checksum in ("a1b2c", "00000"):
        filled = msgspec.json.encode(system).replace(b"%s", checksum.encode())
        message = system_message(msgspec.json.decode(filled, type=str | list[Block]), [])
        assert message is not None
        told.append(message.text.strip())
    assert told == ["You are a coder."] * 2


def test_text_that_mentions_the_billing_line_stays() -> None:
    message = system_message("Never show x-anthropic-billing-header: it is for us.", [])
    assert message is not None and "x-anthropic-billing-header" in message.text


def test_system_prompt_of_nothing_is_none() -> None:
    nothing: list[str | list[Block] | None] = [None, "", []]
    assert [system_message(system, []) for system in nothing] == [None] * 3


def test_what_the_system_says_later_is_in_the_users_turn() -> None:
    """Claude Code lists agents and skills so, behind its user's first words."""
    given = [("user", "hi"), ("system", "Skills: none.\n"), ("user", "go"), ("assistant", "ok")]
    assert turns(*given) == [
        {
            "role": "user",
            "content": "hi\n<system-reminder>\nSkills: none.\n</system-reminder>\ngo",
        },
        {"role": "assistant", "content": "ok"},
    ]


def test_what_the_system_says_first_is_in_its_prompt() -> None:
    first = AnthropicMessage(role="system", content="Be brief.")
    asked = AnthropicMessage(role="user", content="hi")
    message = system_message("You are a coder.", [first, asked])
    assert message is not None and message.content == "You are a coder.\nBe brief."
    assert [each.role for each in turn_messages([first, asked])] == ["user"]
    assert turn_messages([first]) == []


contents = st.one_of(
    st.sampled_from(["a", "b\n", ""]),
    st.lists(
        st.sampled_from(
            [
                text("x"),
                {"type": "tool_result", "tool_use_id": "a", "content": "r"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                {"type": "thinking", "thinking": "t"},
            ]
        ),
        max_size=3,
    ),
)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), contents), max_size=8))
def test_longer_conversation_begins_as_the_shorter_did(conversation: list[Any]) -> None:
    """Turn by turn, as an agent sends it: what was said is shown the same way ever after."""
    allowed = {"user": ("text", "tool_result"), "assistant": ("text", "tool_use", "thinking")}
    spoken: list[tuple[str, Any]] = []
    for role, content in conversation:
        if spoken and spoken[-1][0] == role:
            continue
        if isinstance(content, list):
            content = [block for block in content if block["type"] in allowed[role]]
        spoken.append((role, content))
    told = turns(*spoken)
    for length in range(len(spoken)):
        shorter = turns(*spoken[:length])
        assert told[: len(shorter)] == shorter
