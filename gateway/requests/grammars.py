"""What an answer must match: from the fields of a request to the Grammar that ranks are sent.

Owns the meaning of response_format and structured_outputs, their size limits, and what a refusal
says. Must not know how a grammar is compiled; grammar_validator.py has that done. Called by the
endpoints that generate text.
"""

from typing import Any

import msgspec

from backend.wire.sampling import Grammar
from gateway.errors import ApiError, invalid
from gateway.requests.body import is_deeper_than
from gateway.sandbox.grammar_validator import (
    GrammarRefused,
    GrammarValidator,
    ValidationQueueFull,
    ValidationUnavailable,
)
from gateway.schema.structured import JsonSchemaFormat, ResponseFormat, StructuredOutputs

MAX_SCHEMA_BYTES = 64 * 1024
MAX_CHOICES_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 64

_NAMES = {"json_schema": "schema", "regex": "regex", "choice": "choice", "lark": "grammar"}
_ANY_OBJECT: dict[str, Any] = {"type": "object"}
# This is llguidance's own keyword; it is taken out of what clients send.
_OPTIONS = "x-guidance"


async def validated_grammar(
    response_format: ResponseFormat | None,
    structured: StructuredOutputs | None,
    grammar_validator: GrammarValidator,
) -> Grammar | None:
    """Return what to submit for the two fields of a request. Raises ApiError."""
    grammar = grammar_of(response_format, structured)
    if grammar is None:
        return None
    return await validate(grammar, grammar_validator, param=_param(response_format, structured))


async def validate(
    grammar: Grammar, grammar_validator: GrammarValidator, *, param: str | None = None
) -> Grammar:
    """Return what to submit for a grammar: the same, or its translation from GBNF.

    param: the field it came from. Raises ApiError 400 for a grammar that cannot be used, 429 if
    too many wait for validation, 503 if there is no result for another reason.
    """
    try:
        return await grammar_validator.validate(grammar)
    except GrammarRefused as error:
        where = f"'{param}'" if param else "grammar"
        message = f"Invalid {where}: {error}."
        raise invalid(message, param, f"invalid_{_NAMES[grammar.kind]}") from None
    except ValidationQueueFull:
        message = "Too many grammars wait to be compiled. Try again in a moment."
        raise ApiError(429, message, param=param, code="grammar_queue_full") from None
    except ValidationUnavailable as error:
        message = f"No grammar can be compiled now: {error}. Try again in a moment."
        raise ApiError(503, message, param=param, code="grammar_unavailable") from None


def grammar_of(
    response_format: ResponseFormat | None, structured: StructuredOutputs | None
) -> Grammar | None:
    """Return the grammar that the two fields ask for, None if any text will do.

    Raises ApiError 400. The grammar may still prove unusable when it is compiled.
    """
    from_format = _of_response_format(response_format) if response_format else None
    from_structured = _of_structured(structured) if structured else None
    if from_format and from_structured:
        message = "'structured_outputs' and 'response_format' may not both restrict the answer."
        raise invalid(message, "structured_outputs")
    return from_format or from_structured


def _of_response_format(request: ResponseFormat) -> Grammar | None:
    if request.type != "json_schema" and request.json_schema is not None:
        message = "'response_format.json_schema' is only for the type 'json_schema'."
        raise invalid(message, "response_format.json_schema")
    match request.type:
        case "text":
            return None
        case "json_object":
            return _of_schema(_ANY_OBJECT, "response_format", is_strict=True)
        case "json_schema":
            return _of_json_schema(request.json_schema)


def _of_json_schema(request: JsonSchemaFormat | None) -> Grammar:
    if request is None:
        message = "Missing required parameter: 'response_format.json_schema'."
        raise invalid(message, "response_format.json_schema", "missing_required_parameter")
    schema = _ANY_OBJECT if request.schema is None else request.schema
    param = "response_format.json_schema.schema"
    return _of_schema(schema, param, is_strict=bool(request.strict))


def _of_structured(request: StructuredOutputs) -> Grammar:
    names = _given(request)
    if len(names) != 1:
        known = "'json', 'regex', 'choice', 'grammar' and 'json_object'"
        message = f"'structured_outputs' must hold exactly one of {known}."
        raise invalid(message, "structured_outputs")
    [name] = names
    param = f"structured_outputs.{name}"
    match name:
        case "regex":
            return Grammar("regex", _checked(request.regex or "", param))
        case "grammar":
            return Grammar("lark", _checked(request.grammar or "", param))
        case "choice":
            return _of_choices(request.choice or [], param)
        case "json":
            return _of_schema(_schema_object(request.json, param), param, is_strict=True)
        case _:
            return _of_schema(_ANY_OBJECT, param, is_strict=True)


def _of_schema(schema: dict[str, Any], param: str, *, is_strict: bool) -> Grammar:
    """Strict: what cannot be enforced is refused when it is compiled; otherwise overlooked."""
    schema = {keyword: value for keyword, value in schema.items() if keyword != _OPTIONS}
    if not is_strict:
        schema[_OPTIONS] = {"lenient": True}
    text = _json(schema, param)
    if len(text) > MAX_SCHEMA_BYTES:
        raise _too_long(param, "the schema takes", MAX_SCHEMA_BYTES)
    if is_deeper_than(text, MAX_SCHEMA_DEPTH):
        raise _too_deep(param)
    return Grammar("json_schema", text.decode())


def _of_choices(choices: list[str], param: str) -> Grammar:
    if sum(map(len, choices)) > MAX_CHOICES_BYTES:
        raise _too_long(param, "the choices take", MAX_CHOICES_BYTES)
    text = _json(choices, param)
    if len(text) > 2 * MAX_CHOICES_BYTES:  # what quotes and escapes may add
        raise _too_long(param, "the choices take", MAX_CHOICES_BYTES)
    return Grammar("choice", text.decode())


def _checked(text: str, param: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _not_unicode(param) from None
    return text


def _schema_object(value: dict[str, Any] | str | None, param: str) -> dict[str, Any]:
    """Return the schema, which may have come spelled in a string."""
    if isinstance(value, dict):
        return value
    text = value or ""
    if len(text) > MAX_SCHEMA_BYTES:
        raise _too_long(param, "the schema takes", MAX_SCHEMA_BYTES)
    try:
        data = text.encode()
        if is_deeper_than(data, MAX_SCHEMA_DEPTH):
            raise _too_deep(param)
        return msgspec.json.decode(data, type=dict[str, Any])
    except UnicodeEncodeError:
        raise _not_unicode(param) from None
    except msgspec.ValidationError:
        raise invalid(f"Invalid '{param}': the schema is not an object.", param) from None
    except msgspec.DecodeError as error:
        raise invalid(f"Invalid '{param}': the schema is not JSON: {error}.", param) from None


def _json(value: object, param: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise _not_unicode(param) from None


def _given(request: StructuredOutputs) -> list[str]:
    """Name the members that are set; json_object counts only when true."""
    values = msgspec.structs.asdict(request)
    return [name for name, value in values.items() if value is not None and value is not False]


def _param(
    response_format: ResponseFormat | None, structured: StructuredOutputs | None
) -> str | None:
    """Name the field that a grammar came from, as precisely as a caller can use it."""
    if structured is not None and (names := _given(structured)):
        return f"structured_outputs.{names[0]}"
    if response_format is not None and response_format.type == "json_schema":
        return "response_format.json_schema.schema"
    return "response_format"


def _too_long(param: str, what: str, limit: int) -> ApiError:
    return invalid(f"Invalid '{param}': {what} more than {limit} bytes.", param)


def _too_deep(param: str) -> ApiError:
    message = f"Invalid '{param}': the schema nests more than {MAX_SCHEMA_DEPTH} deep."
    return invalid(message, param)


def _not_unicode(param: str) -> ApiError:
    message = f"Invalid '{param}': the text holds half of a surrogate pair, which is not Unicode."
    return invalid(message, param)
