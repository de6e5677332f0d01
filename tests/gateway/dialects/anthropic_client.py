"""Asks POST /v1/messages over a pool and a template played by hand."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec

from backend.wire.messages import FinishReason
from gateway.app import create_app
from gateway.service import Limits
from tests.gateway.fake_template import FakeTemplate, fake_templates
from tests.gateway.fakes import Exchange, FakePool, make_service

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH
TOOL = {"name": "weather", "description": "of a city", "input_schema": {"type": "object"}}
CALL = b'<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


def playing(text: bytes, finish: FinishReason = STOP) -> FakePool:
    """Return a pool whose model says `text`; the token that stops it is no text."""
    return FakePool(script=(text + b"." if finish is STOP else text, finish))


async def ask(
    pool: FakePool | None = None,
    template: FakeTemplate | None = None,
    path: str = "/v1/messages",
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (),
    limits: Limits | None = None,
    **fields: Any,
) -> Exchange:
    """Return the finished exchange of one request."""
    service = make_service(pool or playing(b"hello"), limits=limits or Limits())
    templates = fake_templates(default=template or FakeTemplate())
    app = create_app(replace(service, chat_templates=templates))
    body: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 99,
        **fields,
    }
    given = {name: value for name, value in body.items() if value is not ...}
    return await Exchange(app, method, path, msgspec.json.encode(given), headers).finished()


def events_of(exchange: Exchange) -> list[dict[str, Any]]:
    """Return the events of a stream, each named by its type."""
    events = []
    for framed in exchange.body.decode().strip().split("\n\n"):
        name, data = framed.split("\n")
        event = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


def assembled(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Put the message of a stream together, as Anthropic's clients do."""
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    is_open = False
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert not is_open and event["index"] == len(message["content"])
                is_open = True
                message["content"].append(event["content_block"])
            case "content_block_delta":
                assert is_open and event["index"] == len(message["content"]) - 1
                block = message["content"][-1]
                kind, *rest = (value for value in event["delta"].values())
                field = kind.removesuffix("_delta")
                if field == "input_json":
                    index = event["index"]
                    inputs[index] = inputs.get(index, "") + rest[0]
                else:
                    block[field] += rest[0]
            case "content_block_stop":
                assert is_open
                is_open = False
                if event["index"] in inputs:
                    message["content"][-1]["input"] = msgspec.json.decode(inputs[event["index"]])
            case "message_delta":
                assert not is_open
                message |= event["delta"]
                message["usage"] = event["usage"]
    return message
