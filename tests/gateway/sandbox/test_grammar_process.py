"""What the helper finds of grammars, without its process."""

import json
import math
from typing import Any

import msgspec
import pytest

from backend.structured_output.grammar import GrammarError, GrammarTable
from backend.wire.sampling import Grammar
from gateway.sandbox.grammar_process import MAX_COMPILE_UNITS, Trial, _seconds, validate

PIECES = [b"", *(bytes([byte]) for byte in range(256))]
TABLE = GrammarTable(PIECES, (0,), max_compiled=1)
PARAMETERS = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "pattern": "^/[a-z/]+$"},
        "when": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "format": "email"},
        "size": {"type": "number", "minimum": -1.5, "maximum": 3},
    },
}


def of_schema(schema: dict[str, Any]) -> Grammar:
    return Grammar("json_schema", json.dumps(schema))


def test_what_compiles_does_not_depend_on_the_clock() -> None:
    """A known schema's time on this machine is the measure; 0.1 s was it before."""
    unit_s = min(_seconds(TABLE) for _ in range(3))
    trial = Trial(TABLE, len(PIECES), max_compile_s=MAX_COMPILE_UNITS * unit_s)
    numbers = range(40)  # these tools take five units
    rules = "".join(
        f"call_{number}: %json {json.dumps({**PARAMETERS, 'title': str(number)})}\n"
        for number in numbers
    )
    start = " | ".join(f'"{number} " call_{number}' for number in numbers)
    trial.run(Grammar("lark", f"start: {start}\n{rules}"))
    with pytest.raises(GrammarError, match="too complex to compile quickly"):
        trial.run(of_schema({"type": "integer", "multipleOf": 99_991}))  # and this fifty


TRIAL = Trial(TABLE, len(PIECES), max_compile_s=math.inf)


def test_schema_says_how_its_json_is_written() -> None:
    result = validate(of_schema(PARAMETERS), TRIAL)
    assert result.grammar is not None and result.not_enforced == ()
    schema = json.loads(result.grammar.text)
    assert schema["x-guidance"]["item_separator"] == ", ?"
    assert schema["additionalProperties"] is False  # it is strict
    again = validate(Grammar("lark", f"start: %json {result.grammar.text}"), TRIAL)
    assert again.error == ""
    # What ranks compile is what was tried.
    TABLE.matcher(result.grammar)


@pytest.mark.parametrize(
    "keyword",
    [
        {"pattern": r"(?<=a)b"},
        {"pattern": "("},
        {"patternProperties": {"(?=a)": {}}},
        {"patternProperties": {"^a": {}, "a$": {}}},
        {"oneOf": [{"type": "string"}, {"maxLength": 3}]},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"enum": []},
        {"anyOf": [{"minimum": 3, "maximum": 1}, {"type": "string", "pattern": "["}]},
    ],
)
def test_one_keyword_never_refuses_a_lenient_schema(keyword: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": keyword}}
    result = validate(of_schema({**schema, "x-guidance": {"lenient": True}}), TRIAL)
    assert result.error == "" and result.not_enforced
    assert all(path.startswith("properties.b.") for path in result.not_enforced)
    assert result.grammar is not None
    assert json.loads(result.grammar.text)["properties"]["a"] == {"type": "string"}
    strict = validate(of_schema(schema), TRIAL)
    assert strict.error.startswith("properties.b.") and strict.path.startswith("properties.b.")


def test_lenient_schema_that_is_too_wide_loses_what_is_too_much() -> None:
    wide = {"properties": {f"p{n}": {"type": "integer"} for n in range(1500)}, "minProperties": 1}
    result = validate(of_schema({"type": "object", **wide, "x-guidance": {"lenient": True}}), TRIAL)
    assert result.not_enforced == ("properties",)


def test_refusals_of_other_grammars_name_no_path() -> None:
    for grammar in (Grammar("regex", "(a"), Grammar("json_schema", "[]")):
        result = validate(grammar, TRIAL)
        assert result.error and not result.path


def test_answers_are_sent_as_they_are() -> None:
    result = validate(of_schema({"not": {}, "x-guidance": {"lenient": True}}), TRIAL)
    data = msgspec.msgpack.encode(result)
    assert msgspec.msgpack.decode(data, type=type(result)) == result
    assert result.not_enforced == ("not",)
