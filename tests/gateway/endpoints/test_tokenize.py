"""POST /tokenize and /detokenize in vLLM's shapes."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.app import create_app
from tests.gateway.fake_template import FakeTemplate, fake_templates
from tests.gateway.fakes import Exchange, FakePool, make_service

HI = {"role": "user", "content": "hi"}


async def post(path: str, fields: dict[str, Any], template: FakeTemplate | None = None) -> Exchange:
    templates = fake_templates(default=template or FakeTemplate())
    service = replace(make_service(FakePool()), chat_templates=templates)
    body = msgspec.json.encode(fields)
    return await Exchange(create_app(service), "POST", path, body).finished()


async def test_prompt_is_counted_and_listed() -> None:
    exchange = await post("/tokenize", {"model": "tiny", "prompt": "hé"})
    assert exchange.json == {
        "count": 3,
        "max_model_len": 1000,
        "tokens": [104, 0xC3, 0xA9],
        "token_strs": None,
    }


async def test_tokens_are_spelled_when_asked() -> None:
    exchange = await post("/tokenize", {"prompt": "hé", "return_token_strs": True})
    assert exchange.json["token_strs"] == ["h", r"bytes:\xc3", r"bytes:\xa9"]


async def test_messages_go_through_the_template() -> None:
    template = FakeTemplate()
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}]
    fields = {"messages": messages, "continue_final_message": True}
    assert (await post("/tokenize", fields, template)).json["tokens"] == list(b"hiso")
    [conversation] = template.seen
    assert conversation.continues_final_message and not conversation.add_generation_prompt


async def test_ids_become_text_again() -> None:
    assert (await post("/detokenize", {"tokens": [104, 105]})).json == {"prompt": "hi"}


@pytest.mark.parametrize(
    ("path", "fields", "status", "param"),
    [
        ("/tokenize", {}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [HI]}, 400, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}]}, 400, "messages"),
        ("/tokenize", {"prompt": "a", "documents": [{"a": 1}]}, 400, "documents"),
        ("/tokenize", {"prompt": "a", "chat_template": "x"}, 400, "chat_template"),
        ("/tokenize", {"prompt": "a", "model": "other"}, 404, "model"),
        ("/detokenize", {"tokens": [258]}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens"),
        ("/detokenize", {"tokens": [10**30]}, 400, "tokens"),
        ("/detokenize", {}, 400, "tokens"),
    ],
)  # fmt: skip
async def test_nonsense_is_refused(
    path: str, fields: dict[str, Any], status: int, param: str
) -> None:
    exchange = await post(path, fields)
    assert (exchange.status, exchange.error["param"]) == (status, param)


async def test_unknown_fields_are_reported() -> None:
    exchange = await post("/tokenize", {"prompt": "a", "foo": 1})
    assert exchange.headers["x-unisono-ignored-fields"] == "foo"
