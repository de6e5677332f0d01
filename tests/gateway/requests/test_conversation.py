"""What templates are told of messages and tools, and what they are never told."""

from typing import Any

import msgspec
import pytest

from gateway.errors import ApiError
from gateway.requests.conversation import encode_conversation
from gateway.schema.chat import ChatRequest
from gateway.schema.messages import check_conversation
from tests.gateway.fake_template import FakeTemplate, fake_templates

USER = {"role": "user", "content": "hi"}


async def told(template: FakeTemplate | None = None, **fields: Any) -> Any:
    """Return the conversation that a template is given for the fields of a request."""
    template = template or FakeTemplate()
    request = msgspec.convert({"model": "tiny", "messages": [USER], **fields}, ChatRequest)
    check_conversation(request)
    await encode_conversation(request, request.tools, fake_templates(default=template))
    return template.seen[0]


async def messages_told(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = (await told(messages=list(messages))).messages
    return shown


async def refusal(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await told(**fields)
    assert caught.value.status == 400
    return caught.value


def calling(arguments: Any, **others: Any) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [{**call, **others}]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("  \n", {}),
        ("null", {}),
        (None, {}),
        ("{}", {}),
        (' {"a": [1]} ', {"a": [1]}),
        ({"a": 1}, {"a": 1}),
    ],
)
async def test_past_arguments_are_an_object(arguments: Any, expected: dict[str, Any]) -> None:
    """Templates failed over, or quoted, what was none."""
    [message] = await messages_told(calling(arguments))
    assert message["tool_calls"][0]["function"]["arguments"] == expected


@pytest.mark.parametrize(
    "arguments", ["[]", '"{\\"a\\": 1}"', '{"a": ', "3", "x", "\ud800", "[" * 99]
)
async def test_past_arguments_that_are_no_object_are_named(arguments: str) -> None:
    error = await refusal(messages=[USER, calling("{}"), calling(arguments)])
    assert error.param == "messages[2].tool_calls[0].function.arguments"
    assert error.param in error.message


async def test_call_without_id_or_type_is_a_call() -> None:
    [message] = await messages_told(calling("{}", id=None, type=None))
    assert message["tool_calls"] == [
        {"type": "function", "function": {"name": "f", "arguments": {}}}
    ]


async def test_what_the_api_keeps_for_itself_is_not_told() -> None:
    """The model read `"strict": true` in its prompt."""
    prompts = []
    for strict in ({}, {"strict": None}, {"strict": True}, {"strict": False}):
        function = {"name": "f", "description": "d", "parameters": {"type": "object"}, **strict}
        prompts.append((await told(tools=[{"type": "function", "function": function}])).tools)
    assert prompts == [prompts[0]] * 4
    assert set(prompts[0][0]["function"]) == {"name", "description", "parameters"}


async def test_legacy_call_and_its_answer_become_a_tools() -> None:
    messages = await messages_told(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": "2"},
    )
    function = {"name": "f", "arguments": {}}
    assert messages[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": function, "id": "call00001"}],
    }
    assert messages[2] == {"role": "tool", "content": "2", "name": "f", "tool_call_id": "call00001"}


async def test_legacy_arguments_that_are_no_object_are_named() -> None:
    call = {"role": "assistant", "function_call": {"name": "f", "arguments": "[]"}}
    assert (await refusal(messages=[call])).param == "messages[0].function_call.arguments"


@pytest.mark.parametrize("role", ["developer", "system", "user", "assistant", "tool", "function"])
async def test_every_role_may_have_its_content_in_parts(role: str) -> None:
    parts = [{"type": "text", "text": "a"}, "b", {"type": "input_text", "text": "c"}]
    message = {"role": role, "content": parts, "tool_call_id": "c", "name": "n"}
    [shown] = await messages_told(message)
    assert (shown["content"], shown["name"]) == ("abc", "n")


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}, "an image"),
        ({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}, "audio"),
        ({"type": "file", "file": {"file_id": "f"}}, "a file"),
        ({"type": "video_url", "video_url": {"url": "x"}}, "a video"),
        ({"type": "hologram"}, "no text"),
    ],
)
async def test_part_that_is_no_text_is_named(part: dict[str, Any], kind: str) -> None:
    text = {"type": "text", "text": "look"}
    error = await refusal(messages=[{"role": "user", "content": [text, part]}])
    assert (error.param, error.code) == ("messages[0].content[1]", "unsupported_content")
    assert "messages[0].content[1]" in error.message and kind in error.message
    assert part["type"] in error.message


async def test_images_beside_the_content_are_named() -> None:
    message = {"role": "user", "content": "look", "images": ["aGVsbG8="]}
    error = await refusal(messages=[{"role": "user", "content": "hello"}, message])
    assert (error.param, error.code) == ("messages[1].images", "unsupported_content")
    assert "'messages[1].images'" in error.message and "text only" in error.message


@pytest.mark.parametrize("images", [None, []])
async def test_no_images_beside_the_content_are_nothing(images: Any) -> None:
    [message] = await messages_told({**USER, "images": images})
    assert message == USER


@pytest.mark.parametrize("kind", ["text", "input_text", "refusal"])
async def test_part_without_its_text_is_named(kind: str) -> None:
    error = await refusal(messages=[{"role": "user", "content": [{"type": kind}]}])
    name = "refusal" if kind == "refusal" else "text"
    assert error.param == f"messages[0].content[0].{name}"
