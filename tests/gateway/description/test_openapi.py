"""The description is valid, complete, and says what the types say."""

import re
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from starlette.applications import Starlette

from gateway.app import create_app
from gateway.description.openapi import openapi
from gateway.description.operations import OPERATIONS, REQUESTS
from gateway.schema.anthropic_answer import MESSAGE_EVENTS
from gateway.schema.chat_answer import ChatChunk
from gateway.schema.completions import Completion
from gateway.schema.field_words import FIELDS
from tests.gateway.fakes import Exchange, FakePool, make_service


def document() -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(openapi()))
    return decoded


async def get(path: str) -> Exchange:
    return await Exchange(create_app(make_service(FakePool())), "GET", path).finished()


def test_it_is_valid_openapi() -> None:
    validate(document())


def test_routes_and_descriptions_are_the_same_set() -> None:
    app = create_app(make_service(FakePool()))
    assert isinstance(app, Starlette)
    served = {
        (method, str(getattr(route, "path", "")).replace(":path", ""))
        for route in app.routes
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    pages = {("GET", "/docs"), ("GET", "/page/{name}")}
    assert served - pages == {(o.method, o.path) for o in OPERATIONS}


def test_ranges_of_the_types_are_in_it() -> None:
    properties = document()["components"]["schemas"]["ChatRequest"]["properties"]
    [number, null] = properties["temperature"]["anyOf"]
    assert number == {"type": "number", "minimum": 0, "maximum": 2}
    assert null == {"type": "null"}


@pytest.mark.parametrize("struct", REQUESTS)
def test_every_field_of_a_request_is_described(struct: type[msgspec.Struct]) -> None:
    properties = document()["components"]["schemas"][struct.__name__]["properties"]
    assert [name for name, field in properties.items() if "description" not in field] == []


def test_no_description_is_left_over() -> None:
    known = {name for struct in REQUESTS for name in struct.__struct_fields__}
    assert set(FIELDS) <= known


def test_what_docstrings_claim_of_fields_moves_to_them() -> None:
    schema = document()["components"]["schemas"]["ChatRequest"]
    assert "chat_template:" not in schema["description"]
    described = schema["properties"]["chat_template"]["description"]
    assert described.startswith("The name of one of the model's templates; by default tool_use")


@pytest.mark.parametrize(
    ("path", "event"), [("/v1/completions", Completion), ("/v1/chat/completions", ChatChunk)]
)
def test_stream_is_described_event_by_event(path: str, event: type[msgspec.Struct]) -> None:
    """It was described as one string, which no event is: schemathesis compares each of them."""
    answer = document()["paths"][path]["post"]["responses"]["200"]
    schema = answer["content"]["text/event-stream"]["schema"]
    assert schema["required"] == ["data"]
    [end, chunk] = schema["properties"]["data"]["anyOf"]
    assert end == {"const": "[DONE]"}
    assert chunk["contentMediaType"] == "application/json"
    names = [payload["$ref"].rpartition("/")[2] for payload in chunk["contentSchema"]["anyOf"]]
    assert names == [event.__name__, "ErrorBody"]


def test_anthropics_events_and_errors_are_described_as_theirs() -> None:
    answers = document()["paths"]["/v1/messages"]["post"]["responses"]
    assert "529" in answers and "503" not in answers
    error = answers["400"]["content"]["application/json"]["schema"]["$ref"]
    assert error.endswith("/AnthropicError")
    schema = answers["200"]["content"]["text/event-stream"]["schema"]
    [event] = schema["properties"]["data"]["anyOf"]
    names = [payload["$ref"].rpartition("/")[2] for payload in event["contentSchema"]["anyOf"]]
    assert names == [kind.__name__ for kind in MESSAGE_EVENTS] + ["AnthropicError"]


async def test_page_loads_nothing_and_shows_every_operation() -> None:
    exchange = await get("/docs")
    page = exchange.body.decode()
    assert exchange.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script|<link|<img|@import|url\(", page)
    ids = set(re.findall(r' id="([^"]+)"', page))
    assert {o.id for o in OPERATIONS} <= ids
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids
    assert "default-src 'none'" in exchange.headers["content-security-policy"]


async def test_served_document_is_the_generated_one() -> None:
    assert (await get("/openapi.json")).json == document()
