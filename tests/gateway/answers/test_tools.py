"""Tool calls come out of the text, however it was cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.structured_output.grammar import GrammarTable
from backend.wire.sampling import Grammar
from gateway.answers.tools import ToolDelta, ToolParser, calls_grammar

WEATHER = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


def parse(pieces: list[str], *, allows_parallel: bool = True) -> tuple[str, list[Any], int]:
    """Return content, (name, arguments) of each call, and how many deltas came."""
    parser = ToolParser(allows_parallel=allows_parallel)
    found = [delta for piece in pieces for delta in parser.push(piece)] + parser.flush()
    content = "".join(delta for delta in found if isinstance(delta, str))
    calls: list[list[Any]] = []
    deltas = [delta for delta in found if isinstance(delta, ToolDelta)]
    for delta in deltas:
        if delta.id is not None:
            assert delta.index == len(calls) and delta.id.startswith("call_")
            calls.append([delta.name, ""])
        calls[delta.index][1] += delta.arguments
    return content, [tuple(call) for call in calls], len(deltas)


def cut(text: str, cuts: list[int]) -> list[str]:
    positions = sorted({min(cut, len(text)) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *positions], [*positions, len(text)], strict=True)]


FRAGMENTS = st.sampled_from(
    [WEATHER, "<tool_call>", "</tool_call>", "hi ", "\n", "<tool", '{"name": "f", ', "}", '"', "é",
     '<tool_call>{"arguments": {"a": "</tool_call>"}, "name": "g"}</tool_call>',
     '<tool_call>{"name":"h","parameters":{"x":"}\\"</tool_call>"}}</tool_call>']
)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=6).map("".join), st.lists(st.integers(0, 200), max_size=20))
def test_how_a_text_is_cut_does_not_change_what_comes_out(text: str, cuts: list[int]) -> None:
    assert parse(cut(text, cuts))[:2] == parse([text])[:2]


@given(st.text(alphabet="ab <>\n_tolc/", max_size=60), st.lists(st.integers(0, 60), max_size=9))
def test_text_without_calls_is_content_unchanged(text: str, cuts: list[int]) -> None:
    content, calls, _ = parse(cut(text, cuts))
    assert (content, calls) == (text, [])


def test_arguments_stream_as_they_come() -> None:
    content, calls, num_deltas = parse(list(WEATHER))
    assert content == ""
    assert calls == [("weather", '{"city": "Bern"}')]
    assert num_deltas == 1 + len('{"city": "Bern"}')


def test_white_space_around_calls_is_dropped_but_text_kept() -> None:
    content, calls, _ = parse([f"Let me see.\n{WEATHER}\n{WEATHER}\n\n"])
    assert content == "Let me see."
    assert [name for name, _ in calls] == ["weather", "weather"]


def test_only_the_first_of_parallel_calls_is_kept_when_asked() -> None:
    other = WEATHER.replace("weather", "time")
    _, calls, _ = parse([WEATHER + other], allows_parallel=False)
    assert calls == [("weather", '{"city": "Bern"}')]


def test_block_that_is_no_call_stays_content() -> None:
    for text in ("<tool_call>hello</tool_call>", "<tool_call>[1]</tool_call>", "<tool_call>{"):
        content, calls, _ = parse([text])
        assert (content, calls) == (text, [])


def test_call_in_another_order_or_with_string_arguments_is_read() -> None:
    swapped = '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>'
    assert parse([swapped])[1] == [("f", '{"a": 1}')]
    quoted = '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>'
    assert parse([quoted])[1] == [("f", '{"a": 1}')]
    assert parse(['<tool_call>{"name": "f"}</tool_call>'])[1] == [("f", "{}")]


def test_call_that_breaks_off_keeps_what_came() -> None:
    assert parse(['<tool_call>{"name": "f", "arguments": {"a": "x'])[1] == [("f", '{"a": "x')]


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
