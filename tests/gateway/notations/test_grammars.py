"""Grammars of calls accept what models write, and nothing that breaks a schema."""

import json
import re
from typing import Any

import pytest

from backend.structured_output.grammar import GrammarTable
from backend.wire.sampling import Grammar
from gateway.notations.compiled import compiled
from gateway.notations.grammars import CallsGrammar, Functions
from gateway.notations.library import CALL_NOTATIONS, builtin
from gateway.notations.messages_grammar import messages_grammar
from gateway.notations.notation import CallForm
from gateway.notations.served import ServedNotation, serve_notation
from tests.gateway.notations.parsing import called, parse

END = 256
SPECIAL = (
    "<|tool_call>", "<tool_call|>", '<|"|>', "<|start|>", "<|channel|>", "<|message|>", "<|end|>",
    "<|eom|>", "<|eot|>",
    "<|call|>", "<|constrain|>", "[TOOL_CALLS]", "[ARGS]", "<｜tool▁sep｜>",  # noqa: RUF001
    "<|tool_call|>", "<|START_ACTION|>", "<|END_ACTION|>", "<|START_RESPONSE|>",
    "<|END_RESPONSE|>", "<|open|>", "<|close|>", "<|sep|>", "]<]minimax[>[",
)  # fmt: skip
# These write an answer in messages.
MESSAGES = ("harmony", "muse")
IDS = {text: 257 + number for number, text in enumerate(SPECIAL)}
TABLE = GrammarTable([bytes([byte]) for byte in range(256)] + [b""] * (1 + len(IDS)), [END])
SPLIT = re.compile(f"({'|'.join(map(re.escape, SPECIAL))})")
SCHEMA: dict[str, Any] = {
    "$defs": {"Place": {"type": "object", "properties": {"city": {"enum": ["Bern"]}}}},
    "type": "object",
    "properties": {
        "place": {"$ref": "#/$defs/Place"},
        "text": {"type": "string"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "unit": {"enum": ["C", "F"]},
        "sure": {"type": "boolean"},
    },
    "required": ["place", "unit"],
    "additionalProperties": False,
}
FUNCTIONS = [("weather", SCHEMA), ("time", {"type": "object", "properties": {}})]
TOOLS = dict(FUNCTIONS)
GOOD: dict[str, Any] = {
    "place": {"city": "Bern"},
    "text": 'a "b" <c>',
    "days": [1, 2],
    "unit": "C",
    "sure": True,
}
LEAST: dict[str, Any] = {"place": {"city": "Bern"}, "unit": "F"}
BAD: tuple[dict[str, Any], ...] = (
    {"place": {"city": "Basel"}, "unit": "C"},
    {"place": {"city": "Bern"}, "unit": "K"},
    {"place": {"city": "Bern"}},
    {"place": {"city": "Bern"}, "days": ["x"], "unit": "C"},
)


def tokens(text: str) -> list[int]:
    parts = [part for part in SPLIT.split(text) if part]
    return [t for part in parts for t in ([IDS[part]] if part in IDS else part.encode())]


def accepts(grammar: Grammar, text: str, *, whole: bool = True) -> bool:
    matcher = TABLE.matcher(grammar)
    ids = tokens(text) + ([END] if whole else [])
    return all(matcher.accept(token_id) for token_id in ids)


def served(name: str, special: bool = True) -> ServedNotation:
    form = compiled(builtin(name), builtin(name) if name in MESSAGES else None)
    return serve_notation(form, IDS if special else {})


def demanded(
    notation: ServedNotation,
    functions: Functions,
    *,
    allows_parallel: bool,
    body: Grammar | None = None,
) -> Grammar:
    writer = CallsGrammar(notation, functions, allows_parallel=allows_parallel)
    grammar = writer.demanded(body)
    assert not writer.shortfalls
    return grammar


def json_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def written(name: str, calls: list[tuple[str, dict[str, Any]]]) -> str:
    """Write calls as the first form of a notation has them."""
    form = builtin(name)
    if form.messages is None:
        return in_section(form.calls[0], calls)
    [(tool, given)] = calls
    call = form.messages.written_call.replace("{name}", tool)
    body = in_section(form.calls[0], calls) if form.calls else json_of(given)
    return call.replace("{arguments}", body)


def text_head(name: str) -> str:
    """Return what stands before a text that is no call."""
    form = builtin(name)
    return form.messages.written_text if form.messages is not None else form.text_opening


def after_thought(name: str) -> str:
    """Return what may come before a call."""
    messages = builtin(name).messages
    if messages is None:
        return "Let me see.\n"
    return f"{messages.written_reasoning}Hm.{messages.close[0]}"


def in_section(first: CallForm, calls: list[tuple[str, dict[str, Any]]]) -> str:
    texts = []
    for tool, given in calls:
        keys = (first.name_key, first.arguments_key)
        texts.append(
            first.call.replace("{name}", tool)
            .replace("{index}", "0")
            .replace("{ignored}", "abcde12345")
            .replace("{object}", f'{{"{keys[0]}": "{tool}", "{keys[1]}": {json_of(given)}}}')
            .replace("{arguments}", marked(given, True) if first.string_mark else json_of(given))
            .replace("{keywords}", ", ".join(f"{key}={value!r}" for key, value in given.items()))
            .replace("{parameters}", "".join(parameter(first.parameter, *i) for i in given.items()))
        )
    return first.section.replace("{calls}", first.separator.join(texts))


def parameter(form: str, key: str, value: Any) -> str:
    text = value if isinstance(value, str) else json_of(value)
    if form.count("{key}") > 1:
        if value is None:
            return ""
        text = nested(form, value) if isinstance(value, dict | list) else text
    form = form.replace("{string}", "true" if isinstance(value, str) else "false")
    form = form.replace("{type}", type_of(value))
    return form.replace("{key}", key).replace("{value}", text)


def nested(form: str, value: Any) -> str:
    items = value.items() if isinstance(value, dict) else [("item", each) for each in value]
    return "".join(parameter(form, *item) for item in items)


def type_of(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return "null" if value is None else names.get(type(value), "object")


def marked(value: Any, is_outer: bool = False) -> str:
    if isinstance(value, dict):
        items = sorted(value.items())
        return "{" + ",".join(f"{key}:{marked(item)}" for key, item in items) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(marked, value))}]"
    return f'<|"|>{value}<|"|>' if isinstance(value, str) else json_of(value)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", CALL_NOTATIONS)
def test_demanded_calls_obey_their_schemas(name: str, special: bool) -> None:
    if name in MESSAGES and not special:
        pytest.skip("its marks are special tokens in every vocabulary that has them")
    notation = served(name, special)
    grammar = demanded(notation, FUNCTIONS, allows_parallel=True)

    def is_accepted(text: str) -> bool:
        if not special:
            return all(map(TABLE.matcher(grammar).accept, [*text.encode(), END]))
        return accepts(grammar, text)

    for arguments in (GOOD, LEAST):
        text = written(name, [("weather", arguments)])
        assert is_accepted(text), text
        assert called(parse([text], notation.form, TOOLS)) == (("weather", arguments),)
    if name not in MESSAGES:
        assert is_accepted(written(name, [("weather", LEAST), ("time", {})]))
    for arguments in BAD:
        assert not is_accepted(written(name, [("weather", arguments)])), arguments
    assert not is_accepted(written(name, [("other", {})]))
    assert not is_accepted("Well.")


@pytest.mark.parametrize("name", CALL_NOTATIONS)
def test_one_call_is_one_where_several_are_not_allowed(name: str) -> None:
    grammar = demanded(served(name), FUNCTIONS, allows_parallel=False)
    assert accepts(grammar, written(name, [("time", {})]))
    if name not in MESSAGES:
        assert not accepts(grammar, written(name, [("time", {}), ("time", {})]))


@pytest.mark.parametrize("name", CALL_NOTATIONS)
def test_calls_are_held_from_where_they_begin(name: str) -> None:
    """With tool_choice auto a strict tool's enum was broken."""
    grammar = CallsGrammar(served(name), FUNCTIONS, allows_parallel=True).held()
    before = after_thought(name)
    unmarked = builtin(name).calls and builtin(name).calls[0].is_unmarked
    for arguments in (GOOD, LEAST):
        text = written(name, [("weather", arguments)])
        assert accepts(grammar, text), text
        assert unmarked or accepts(grammar, before + text)
    for arguments in BAD:
        text = written(name, [("weather", arguments)])
        assert not accepts(grammar, text), text
        assert unmarked or not accepts(grammar, before + text)
    assert accepts(grammar, f"{text_head(name)}Well: 1 < 2.")


@pytest.mark.parametrize("name", CALL_NOTATIONS)
def test_answer_is_calls_or_obeys_the_other_grammar(name: str) -> None:
    """A response_format kept the model from calling tools."""
    schema = '{"properties": {"a": {"const": 1}}, "additionalProperties": false}'
    body = Grammar("json_schema", schema)
    grammar = demanded(served(name), FUNCTIONS, allows_parallel=True, body=body)
    head = text_head(name)
    assert accepts(grammar, f'{head}{{"a": 1}}')
    assert accepts(grammar, written(name, [("weather", LEAST)]))
    assert not accepts(grammar, f'{head}{{"a": 2}}')
    assert not accepts(grammar, f"{head}Well.")
    assert not accepts(grammar, written(name, [("weather", BAD[1])]))


def test_calls_are_not_written_in_a_form_that_is_not_held() -> None:
    """Qwen3-Coder's calls without their outer mark were calls, and broke a strict schema."""
    grammar = CallsGrammar(served("qwen3-coder"), FUNCTIONS, allows_parallel=True).held()
    assert not accepts(grammar, "Well. <function=weather>\n</function>")
    assert accepts(grammar, "Well. <functions> \n")


@pytest.mark.parametrize(
    ("name", "around"),
    [
        ("command-a", "<|START_RESPONSE|>{}<|END_RESPONSE|>"),
        ("kimi-k3", "<|open|>response<|sep|>{}<|close|>response<|sep|>"),
    ],
)
def test_marks_around_what_is_said_may_come(name: str, around: str) -> None:
    """With a strict tool, Cohere's models could not begin an answer."""
    call = written(name, [("weather", LEAST)])
    for allows_parallel in (True, False):
        held = CallsGrammar(served(name), FUNCTIONS, allows_parallel=allows_parallel).held()
        assert accepts(held, around.format("Well."))
        assert accepts(held, around.format("Well.") + call)
        assert not accepts(held, around.format("Well.") + written(name, [("weather", BAD[1])]))
    body = Grammar("json_schema", '{"enum": [{"a": 1}]}')
    either = demanded(served(name), FUNCTIONS, allows_parallel=True, body=body)
    assert accepts(either, around.format('{"a": 1}')) and accepts(either, call)
    assert not accepts(either, around.format("Well."))
    calls = demanded(served(name), FUNCTIONS, allows_parallel=True)
    assert accepts(calls, around.format("") + call) and not accepts(
        calls, around.format("a") + call
    )


@pytest.mark.parametrize("has_tools", [True, False])
def test_thoughts_in_messages_end_in_time(has_tools: bool) -> None:
    body = Grammar("json_schema", '{"enum": [{"a": 1}]}')
    functions = FUNCTIONS if has_tools else None
    grammar = messages_grammar(served("harmony"), functions, body=body, max_thought_tokens=3)
    said = '<|start|>assistant<|channel|>final<|message|>{"a": 1}'
    assert accepts(grammar, f"<|channel|>analysis<|message|>abc<|end|>{said}")
    assert accepts(grammar, f"<|channel|>analysis<|message|>a<|end|>{said}")
    assert not accepts(grammar, "<|channel|>analysis<|message|>abcd", whole=False)
    call = written("harmony", [("time", {})])
    assert accepts(grammar, f"<|channel|>analysis<|message|>abc<|end|>{call}") == has_tools
