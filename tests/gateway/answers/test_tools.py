"""Grammars of calls name every function and hold its schema."""

import json

import pytest

from backend.structured_output.grammar import GrammarTable
from backend.wire.sampling import Grammar
from gateway.answers.tools import calls_grammar


def test_grammar_of_required_calls_names_every_function() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    text = calls_grammar([("weather", schema), ("time", {})], allows_parallel=False)
    for name in ("weather", "time"):
        assert json.dumps(f'{{"name": "{name}", "arguments": ') in text
    assert "start: call\n" in text
    assert '("\\n" call)*' in calls_grammar([("f", {})], allows_parallel=True)


NESTED = {
    "$defs": {"Place": {"type": "object", "properties": {"city": {"enum": ["Bern"]}}}},
    "properties": {"place": {"$ref": "#/$defs/Place"}, "days": {"type": "integer"}},
    "required": ["place"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("arguments", "is_allowed"),
    [
        ('{"place": {"city": "Bern"}, "days": 3}', True),
        ('{"place":{"city":"Bern"}}', True),
        ('{"place": {"city": "Basel"}}', False),
        ('{"place":  {"city": "Bern"}}', False),
        ('{\n"place": {"city": "Bern"}}', False),
        ('{"days": 3}', False),
    ],
)
def test_required_calls_follow_the_schema_and_waste_no_space(
    arguments: str, is_allowed: bool
) -> None:
    """White space had no bound: LangChain, with a random model, got nothing else. And references
    inside a schema led to the grammar's root instead of the schema's.
    """
    text = calls_grammar([("weather", NESTED), ("time", {})], allows_parallel=True)
    call = f'<tool_call>\n{{"name": "weather", "arguments": {arguments}}}\n</tool_call>'
    table = GrammarTable([bytes([byte]) for byte in range(256)] + [b""], [256])
    matcher = table.matcher(Grammar("lark", text))
    tokens = [*f"{call}\n{call}".encode(), 256]
    accepted = all(matcher.accept(token) for token in tokens)
    assert accepted == is_allowed
