"""What an answer must match: from the fields of a request to the Grammar that ranks are sent.

Owns the meaning of response_format and structured_outputs, their size limits, and what a refusal
says, or a header of what is not enforced. Must not know how a grammar is compiled;
grammar_validator.py has that done. Called by the endpoints that generate text.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from backend.wire.sampling import Grammar
from gateway.errors import ApiError, invalid, missing
from gateway.requests.body import is_deeper_than
from gateway.requests.unknown_fields import names_header
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
NOT_ENFORCED_HEADER = "x-unisono-not-enforced"
# This is llguidance's own keyword; it is taken out of what clients send.
_OPTIONS = "x-guidance"


async def validated_grammar(
    response_format: ResponseFormat | None,
    structured: StructuredOutputs | None,
    grammar_validator: GrammarValidator,
) -> tuple[Grammar | None, Sequence[str]]:
    """Return what to submit for the two fields of a request, and what of it is not enforced.

    The latter by its path in the request. Raises ApiError.
    """
    grammar = grammar_of(response_format, structured)
    if grammar is None:
        return None, ()
    param = _param(response_format, structured)
    if grammar.kind != "json_schema":
        return await validate(grammar, grammar_validator, param=param), ()
    return await validate_schema(grammar, grammar_validator, param=param)


async def enforceable_schema(
    schema: dict[str, Any],
    grammar_validator: GrammarValidator,
    *,
    is_strict: bool,
    param: str,
    owner: str = "",
) -> tuple[dict[str, Any], Sequence[str]]:
    """Return what of a schema a larger grammar can hold, and what is not enforced, by its path.

    The schema says to the library how its JSON is written, so that Lark can have it after %json.
    param: the field that it came from; owner: what it is of, for a refusal. Raises ApiError; 400
    for a strict one that cannot be enforced wholly, which names the keyword.
    """
    grammar = _of_schema(schema, param, is_strict=is_strict)
    valid, not_enforced = await validate_schema(
        grammar, grammar_validator, param=param, owner=owner
    )
    return msgspec.json.decode(valid.text), not_enforced


async def validate(
    grammar: Grammar, grammar_validator: GrammarValidator, *, param: str | None = None
) -> Grammar:
    """Return what to submit for a grammar: the same, or its translation from GBNF.

    param: the field it came from. Raises ApiError 400 for a grammar that cannot be used, 429 if
    too many wait for validation, 503 if there is no result for another reason.
    """
    try:
        return await grammar_validator.validate(grammar)
    except (GrammarRefused, ValidationUnavailable) as error:
        raise _refusal(error, grammar, param) from None


async def validate_schema(
    grammar: Grammar, grammar_validator: GrammarValidator, *, param: str, owner: str = ""
) -> tuple[Grammar, Sequence[str]]:
    """Do what validate() does for a JSON schema; return, too, what of it is not enforced.

    Of one that is not strict at least the outer form is.
    """
    try:
        valid, not_enforced = await grammar_validator.validate_schema(grammar)
    except (GrammarRefused, ValidationUnavailable) as error:
        outer = _outer_form(grammar) if isinstance(error, GrammarRefused) else None
        if outer is None:
            raise _refusal(error, grammar, param, owner) from None
        return outer, [param]
    return valid, [f"{param}.{path}" for path in not_enforced]


def _refusal(
    error: GrammarRefused | ValidationUnavailable,
    grammar: Grammar,
    param: str | None,
    owner: str = "",
) -> ApiError:
    """Say to the client why there is no grammar."""
    if isinstance(error, GrammarRefused):
        where = f"'{param}'" if param else "grammar"
        where += f" {owner}" if owner else ""
        at_fault = f"{param}.{error.path}" if param and error.path else param
        return invalid(f"Invalid {where}: {error}.", at_fault, f"invalid_{_NAMES[grammar.kind]}")
    if isinstance(error, ValidationQueueFull):
        message = "Too many grammars wait to be compiled. Try again in a moment."
        return ApiError(429, message, param=param, code="grammar_queue_full")
    message = f"No grammar can be compiled now: {error}. Try again in a moment."
    return ApiError(503, message, param=param, code="grammar_unavailable")


def not_enforced_header(paths: Sequence[str]) -> dict[str, str]:
    """Return the header that tells what of its schemas an answer need not obey."""
    return names_header(NOT_ENFORCED_HEADER, paths)


def _outer_form(grammar: Grammar) -> Grammar | None:
    """Return what all answers to a schema have in common; None if it is strict."""
    schema = msgspec.json.decode(grammar.text)
    options = schema.get(_OPTIONS, {})
    if not options.pop("lenient", False):
        return None
    is_object = schema.get("type") == "object" or isinstance(schema.get("properties"), dict)
    outer: dict[str, Any] = dict(_ANY_OBJECT) if is_object else {}
    return Grammar("json_schema", _json({**outer, **_given_options(options)}, "").decode())


def grammar_of(
    response_format: ResponseFormat | None, structured: StructuredOutputs | None
) -> Grammar | None:
    """Return the grammar that the two fields ask for, None if any text will do.

    Raises ApiError 400. The grammar may still prove unusable when it is compiled.
    """
    is_free = structured is not None and bool(structured.any_whitespace)
    from_format = None
    if response_format is not None:
        from_format = _of_response_format(response_format, any_whitespace=is_free)
    from_structured = None
    if structured is not None and not (is_free and from_format and not _given(structured)):
        from_structured = _of_structured(structured, any_whitespace=is_free)
    if from_format and from_structured:
        message = "'structured_outputs' and 'response_format' may not both restrict the answer."
        raise invalid(message, "structured_outputs")
    return from_format or from_structured


def _of_response_format(request: ResponseFormat, *, any_whitespace: bool) -> Grammar | None:
    if request.type != "json_schema" and request.json_schema is not None:
        message = "'response_format.json_schema' is only for the type 'json_schema'."
        raise invalid(message, "response_format.json_schema")
    match request.type:
        case "text":
            return None
        case "json_object":
            return _of_schema(
                _ANY_OBJECT, "response_format", is_strict=True, any_whitespace=any_whitespace
            )
        case "json_schema":
            return _of_json_schema(request.json_schema, any_whitespace=any_whitespace)


def _of_json_schema(request: JsonSchemaFormat | None, *, any_whitespace: bool) -> Grammar:
    if request is None:
        raise missing("response_format.json_schema")
    schema = _ANY_OBJECT if request.schema is None else request.schema
    param = "response_format.json_schema.schema"
    return _of_schema(schema, param, is_strict=bool(request.strict), any_whitespace=any_whitespace)


def _of_structured(request: StructuredOutputs, *, any_whitespace: bool) -> Grammar:
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
            schema = _schema_object(request.json, param)
        case _:
            schema = _ANY_OBJECT
    return _of_schema(schema, param, is_strict=True, any_whitespace=any_whitespace)


def _of_schema(
    schema: dict[str, Any], param: str, *, is_strict: bool, any_whitespace: bool = False
) -> Grammar:
    """Strict: what cannot be enforced is refused when it is compiled; otherwise left out."""
    schema = {keyword: value for keyword, value in schema.items() if keyword != _OPTIONS}
    schema |= _given_options({"lenient": not is_strict, "any_whitespace": any_whitespace})
    text = _json(schema, param)
    if len(text) > MAX_SCHEMA_BYTES:
        raise _too_long(param, "the schema takes", MAX_SCHEMA_BYTES)
    if is_deeper_than(text, MAX_SCHEMA_DEPTH):
        raise _too_deep(param)
    return Grammar("json_schema", text.decode())


def _given_options(options: dict[str, bool]) -> dict[str, Any]:
    """Return the keyword that tells the process which compiles what is asked for, if anything."""
    asked = {name: True for name, value in options.items() if value}
    return {_OPTIONS: asked} if asked else {}


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
    del values["any_whitespace"]  # says how, not what
    return [name for name, value in values.items() if value is not None and value is not False]


def _param(response_format: ResponseFormat | None, structured: StructuredOutputs | None) -> str:
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
