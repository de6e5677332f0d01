"""The API's description, OpenAPI 3.1, generated from the types that decode and encode it.

Ranges, defaults and shapes come from the Structs, and so do descriptions of fields: `name: words`
in a docstring, else those of schema/field_words.py. Knows no running service. Called by the
endpoint that serves it and by tests.
"""

import re
from functools import cache
from typing import Any

import msgspec

from gateway.description.operations import OPERATIONS, REQUESTS, Operation
from gateway.schema.field_words import FIELDS

REF = "#/components/schemas/{name}"
# A new claim about fields begins a sentence: "top_logprobs needs logprobs" is none, "seed: ..." is.
_CLAIM = re.compile(r"(?:^|(?<=[.;\n]\s)|(?<=\n))((?:`?\w+`?)(?:, `?\w+`?)*): ")


ERRORS = {
    "400": "The request cannot be served as it is; `param` names the field at fault.",
    "403": "The key may not have this, or a page's origin may not call.",
    "404": "The model, or the URL, does not exist.",
    "408": "The body, or the answer, did not come in time.",
    "413": "The body is too large.",
    "415": "The body is compressed in a way that is not read here.",
    "429": "Too many requests wait; Retry-After says when to try again.",
    "500": "The server failed on this request.",
    "503": "No group of ranks is ready, or the server is shutting down; see Retry-After.",
}
# Of dialects that tell it from a 400.
SHAPE_ERRORS = {"422": "The JSON has not the form that is read here."}
# Which of them an operation without a body can answer with.
BODILESS_ERRORS = ("403", "404", "500")


@cache
def openapi() -> dict[str, Any]:
    """Return the description. It is shared: not to be changed."""
    types = _types()
    _, schemas = msgspec.json.schema_components(types, ref_template=REF)
    structs = {struct.__name__: struct for struct in _structs()}
    for name, schema in schemas.items():
        if name in structs:
            _describe(schema, structs[name])
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Unisono",
            "version": "1",
            "summary": "A large language model behind OpenAI's API.",
            "description": "OpenAI's Completions, Chat Completions and Models, with vLLM's names "
            "for what goes beyond them. Null stands for a field's default. Unknown fields are "
            "named in the header x-unisono-ignored-fields, or refused where the server is strict.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(o.tag for o in OPERATIONS)],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.tag],
        "responses": _responses(operation),
    }
    if "{name}" in operation.path:
        described["parameters"] = [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    if operation.request is not None:
        content: dict[str, Any] = {"schema": _ref(operation.request)}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    schema = _ref(operation.response) if operation.response else {"type": "object"}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if operation.events:
        content["text/event-stream"] = {"schema": _event(operation)}
    if operation.has_lines:
        content["application/x-ndjson"] = {"schema": _line(operation)}
    if operation.streams_text:
        content = {"text/event-stream": {"schema": _text_event()}}
    success = {"description": "Success.", "headers": _REQUEST_ID, "content": content}
    if operation.plain_text:
        success["content"] = {"text/plain": {"schema": {"type": "string"}}}
    answers = {"200": success}
    if operation.path in ("/readyz", "/health"):
        answers["503"] = {**success, "description": "No new work is taken."}
    codes = [code for code in ERRORS if operation.request is not None or code in BODILESS_ERRORS]
    for code in codes:
        answers.setdefault(operation.statuses.get(code, code), _error(code, operation.error))
    if operation.has_shape_errors:
        answers["422"] = _error("422", operation.error)
    return answers


def _text_event() -> dict[str, Any]:
    """Describe one event whose data is text; JSON in others of another kind."""
    return {
        "type": "object",
        "description": "Each event. Comment lines (`: ping`) keep silent connections open.",
        "required": ["data"],
        "properties": {"data": {"type": "string"}},
    }


def _line(operation: Operation) -> dict[str, Any]:
    """Describe one line of a stream, whose whole no JSON schema describes."""
    assert operation.response is not None, "what lines consist of"
    payload = {"anyOf": [_ref(operation.response), _ref(operation.error)]}
    return {
        "type": "string",
        "description": "With stream: true, lines of JSON, each of this form; the last is `done`. "
        "An `error` object means that the answer broke off.",
        "contentMediaType": "application/json",
        "contentSchema": payload,
    }


def _event(operation: Operation) -> dict[str, Any]:
    """Describe one event: before OpenAPI 3.2 no keyword tells a stream's events from the whole."""
    payload = {"anyOf": [*map(_ref, operation.events), _ref(operation.error)]}
    data: list[dict[str, Any]] = [
        {"type": "string", "contentMediaType": "application/json", "contentSchema": payload}
    ]
    last = ""
    if operation.end:
        data.insert(0, {"const": operation.end})
        last = f" The last one's data is {operation.end}."
    return {
        "type": "object",
        "description": f"With stream: true, each event.{last} An `error` object means that the "
        "answer broke off. Comment lines (`: ping`) keep silent connections open.",
        "required": ["data"],
        "properties": {"data": {"anyOf": data}},
    }


def _error(code: str, struct: type[msgspec.Struct]) -> dict[str, Any]:
    headers = dict(_REQUEST_ID)
    if code in ("429", "503"):
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
    return {
        "description": (ERRORS | SHAPE_ERRORS)[code],
        "headers": headers,
        "content": {"application/json": {"schema": _ref(struct)}},
    }


_REQUEST_ID: dict[str, Any] = {
    "x-request-id": {
        "description": "The request's own, if it had a well-formed one, else a new one.",
        "schema": {"type": "string"},
    }
}


def _ref(struct: type) -> dict[str, str]:
    return {"$ref": REF.format(name=struct.__name__)}


def _types() -> list[type]:
    named: list[type] = []
    for operation in OPERATIONS:
        either = (operation.request, operation.response, *operation.events, operation.error)
        named += [kind for kind in either if kind is not None]
    return list(dict.fromkeys(named))


def _structs() -> set[type[msgspec.Struct]]:
    """Return every Struct that the operations' types lead to."""
    found: set[type[msgspec.Struct]] = set()
    pending: list[Any] = [msgspec.inspect.type_info(kind) for kind in _types()]
    while pending:
        info = pending.pop()
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found:
                continue
            found.add(info.cls)
            pending += [field.type for field in info.fields]
        for name in ("type", "item_type", "value_type"):
            if isinstance(inner := getattr(info, name, None), msgspec.inspect.Type):
                pending.append(inner)
        pending += getattr(info, "types", ())
    return found


def _describe(schema: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """Move what a docstring says about fields to those; the rest describes the type."""
    own, claims = _claims(struct)
    for base in struct.__mro__[1:]:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            claims = _claims(base)[1] | claims
    schema["description"] = own
    for name, described in schema.get("properties", {}).items():
        is_request = struct in REQUESTS
        words = claims.get(name) or (FIELDS.get(name) if is_request else None)
        if words:
            described["description"] = words


def _claims(struct: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """Split a docstring into what it says of the type and of each field."""
    text = "\n".join(line.strip() for line in (struct.__doc__ or "").strip().splitlines())
    fields = set(struct.__struct_fields__)
    starts = [
        match
        for match in _CLAIM.finditer(text)
        if all(name.strip("`") in fields for name in match[1].split(", "))
    ]
    claims: dict[str, str] = {}
    ends = [*(match.start() for match in starts), len(text)][1:]
    for match, end in zip(starts, ends, strict=True):
        words = " ".join(text[match.end() : end].split())
        words = words[:1].upper() + words[1:]
        claims |= {name.strip("`"): words.rstrip(";") for name in match[1].split(", ")}
    head = text[: starts[0].start()] if starts else text
    return " ".join(head.split()), claims
