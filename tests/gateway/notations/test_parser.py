"""Text, thoughts and calls come out of what a model writes, however it was cut."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answer_events import CallBegin
from gateway.notations.arguments import JsonReader
from gateway.notations.elements import ElementsReader
from gateway.notations.heads import HeadMatcher
from gateway.notations.keywords import KeywordReader
from gateway.notations.marked_json import MarkedJsonReader
from gateway.notations.marks import MarkFinder
from gateway.notations.parameters import ParametersReader
from gateway.notations.parser import OutputParser
from tests.gateway.notations.parsing import (
    assembled,
    called,
    cut,
    events_of,
    notation,
    parse,
    shape,
    streamed,
)
from tests.gateway.notations.recorded_outputs import RECORDED
from tests.gateway.notations.recording import TOOLS, Recorded

CUTS = st.lists(st.integers(0, 700), max_size=30)
HERMES = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
ANY: dict[str, Any] = {"weather": None, "f": None, "g": None, "h": None}


def of(recorded: Recorded, pieces: list[str], **options: Any) -> Any:
    return parse(
        pieces,
        notation(recorded.calls, recorded.reasoning),
        TOOLS,
        is_thinking=recorded.is_thinking,
        **options,
    )


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_recorded_outputs_are_split(recorded: Recorded) -> None:
    answer = of(recorded, [recorded.output])
    assert (answer.text, answer.reasoning) == (recorded.told, recorded.thought)
    assert called(answer) == recorded.called


# Every third place of an output, which one differs from output to output; each in make test-long.
STRIDES = pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])


@STRIDES
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_every_cut_of_recorded_outputs_gives_the_same(recorded: Recorded, stride: int) -> None:
    whole = shape(of(recorded, [recorded.output]))
    assert shape(of(recorded, list(recorded.output))) == whole
    for position in range(RECORDED.index(recorded) % stride, len(recorded.output), stride):
        assert shape(of(recorded, cut(recorded.output, [position]))) == whole


@given(st.sampled_from(RECORDED), CUTS)
def test_any_cuts_of_recorded_outputs_give_the_same(recorded: Recorded, cuts: list[int]) -> None:
    pieces = cut(recorded.output, cuts)
    assert shape(of(recorded, pieces)) == shape(of(recorded, [recorded.output]))


@STRIDES
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_outputs_cut_short_show_no_markup(recorded: Recorded, stride: int) -> None:
    """A call that ran into max_tokens showed its beginning as text."""
    for length in range(RECORDED.index(recorded) % stride, len(recorded.output), stride):
        answer = of(recorded, [recorded.output[:length]], is_cut=True)
        assert recorded.told.startswith(answer.text.rstrip()), recorded.output[:length]
        assert recorded.thought.startswith(answer.reasoning)
        assert called(answer) == recorded.called[: len(answer.calls)]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.name)
def test_arguments_stream_before_they_are_complete(recorded: Recorded) -> None:
    output = notation(recorded.calls, recorded.reasoning)
    events = events_of(recorded.output, output, TOOLS, is_thinking=recorded.is_thinking)
    if recorded.called and recorded.name != "granite-3.3":
        assert len(streamed(events)) > 5 * len(recorded.called)


FRAGMENTS = st.sampled_from(
    [HERMES, "<tool_call>", "</tool_call>", "hi ", "\n", "<tool", '{"name": "f", ', "}", '"', "é",
     "<think>", "</think>", "<thi",
     '<tool_call>{"arguments": {"a": "</tool_call>"}, "name": "g"}</tool_call>',
     '<tool_call>{"name":"h","parameters":{"x":"}\\"</tool_call>"}}</tool_call>']
)  # fmt: skip
MIXED = st.lists(
    st.one_of(
        FRAGMENTS,
        st.sampled_from(
            ["<function=f>", "<parameter=a>", "1", "</parameter>", "</function>", "[", "f(", "a=",
             "'x'", ")", "]", ",", "[TOOL_CALLS]", "f", "[ARGS]", '{"a": 1}', "<|tool_call>call:",
             '<|"|>', "{a:", "<tool_call|>", "<|channel|>", "<|message|>", "analysis", "<|end|>",
             " to=functions.f", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "\\",
             "]<]minimax[>[<tool_call>", '<invoke name="f">', "]<]minimax[>[", "<a>", "</a>",
             "<item>", "</item>", "</invoke>", "</mm:think>"]
        ),
    ),
    max_size=12,
).map("".join)  # fmt: skip
PAIRS = sorted({(recorded.calls, recorded.reasoning) for recorded in RECORDED})


@given(st.sampled_from(PAIRS), MIXED, CUTS, st.booleans(), st.booleans())
def test_how_any_text_is_cut_does_not_matter(
    pair: tuple[str, str], text: str, cuts: list[int], is_cut: bool, is_thinking: bool
) -> None:
    form = notation(*pair)
    is_thinking &= form.reasoning is not None
    options: dict[str, Any] = {"is_cut": is_cut, "is_thinking": is_thinking}
    whole = parse([text], form, ANY, **options)
    assert shape(parse(cut(text, cuts), form, ANY, **options)) == shape(whole)


@given(st.text(alphabet="ab <>\n_tolc/", max_size=60), st.lists(st.integers(0, 60), max_size=9))
def test_text_without_calls_is_text_unchanged(text: str, cuts: list[int]) -> None:
    answer = parse(cut(text, cuts), notation(), ANY)
    assert (answer.text, answer.calls) == (text, [])


def test_json_arguments_stream_character_by_character() -> None:
    events = events_of(HERMES, notation(), ANY)
    assert streamed(events) == list('{"city": "Bern"}')


def test_white_space_around_calls_is_dropped_but_text_kept() -> None:
    answer = parse([f"Let me see.\n{HERMES}\n{HERMES}\n\n"], notation(), ANY)
    assert answer.text == "Let me see."
    assert [call.name for call in answer.calls] == ["weather", "weather"]


def test_only_the_first_of_parallel_calls_is_kept_when_asked() -> None:
    other = HERMES.replace("weather", "f")
    answer = parse([HERMES + other], notation(), ANY, allows_parallel=False)
    assert called(answer) == (("weather", {"city": "Bern"}),)


@pytest.mark.parametrize("text", ["<tool_call>hello</tool_call>", "<tool_call>[1]</tool_call>"])
def test_block_that_is_no_call_stays_text(text: str) -> None:
    answer = parse([text], notation(), ANY)
    assert (answer.text, answer.calls) == (text, [])


def test_call_in_another_order_or_with_string_arguments_is_read() -> None:
    swapped = '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>'
    assert called(parse([swapped], notation(), ANY)) == (("f", {"a": 1}),)
    quoted = '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>'
    assert called(parse([quoted], notation(), ANY)) == (("f", {"a": 1}),)
    bare = '<tool_call>{"name": "f"}</tool_call>'
    assert called(parse([bare], notation(), ANY)) == (("f", {}),)


def test_unknown_tool_is_called_where_a_mark_says_so() -> None:
    assert called(parse([HERMES], notation(), {})) == (("weather", {"city": "Bern"}),)


def test_unknown_tool_is_text_where_nothing_marks_calls() -> None:
    text = '{"name": "Bob", "parameters": {"a": 1}}'
    assert parse(list(text), notation("llama3-json"), ANY).text == text
    assert parse(list("[x(a=1)]"), notation("pythonic"), ANY).text == "[x(a=1)]"


def test_unfinished_call_is_told_in_a_stream_only() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": "x'
    parser = OutputParser(notation(), tools=ANY)
    events = parser.push(text) + parser.flush(is_cut=True)
    assert [event.name for event in events if isinstance(event, CallBegin)] == ["f"]
    assert "".join(streamed(events)) == '{"a": "x'
    assert parser.is_cut and parser.num_calls == 0
    assert assembled(events).calls == []


def test_call_without_its_last_mark_is_complete() -> None:
    parser = OutputParser(notation(), tools=ANY)
    answer = assembled(parser.push(HERMES.removesuffix("\n</tool_call>")) + parser.flush())
    assert called(answer) == (("weather", {"city": "Bern"}),)
    assert not parser.is_cut


def test_calls_stay_text_where_no_tools_were_given() -> None:
    assert parse([HERMES], notation(), None).text == HERMES


def test_thought_that_the_prompt_opens_is_told_until_its_mark() -> None:
    answer = parse(["a\n</think>\n\nb"], notation("hermes", "think"), None, is_thinking=True)
    assert (answer.reasoning, answer.text) == ("a", "b")
    unended = parse(["a\n"], notation("hermes", "think"), None, is_thinking=True)
    assert (unended.reasoning, unended.text) == ("a", "")


def test_mark_of_thoughts_within_text_is_text() -> None:
    text = "Models write `<think>` and `</think>`."
    assert parse(list(text), notation("hermes", "think"), None).text == text


def test_notation_may_begin_within_a_thought() -> None:
    answer = parse(["a</think>b"], notation("hermes", "think-open"), None)
    assert (answer.reasoning, answer.text) == ("a", "b")


def test_marks_that_are_special_tokens_are_never_text() -> None:
    hidden = frozenset({"<tool_call>", "</tool_call>"})
    answer = parse(["a<tool_call>b</tool_call>c"], notation(), ANY, hidden=hidden)
    assert answer.text == "abc"


def test_ids_have_the_form_that_templates_want() -> None:
    for name, length in (("mistral", 9), ("mistral-array", 9)):
        recorded = next(r for r in RECORDED if r.calls == name)
        ids = [call.id for call in of(recorded, [recorded.output]).calls]
        assert all(len(id) == length and id.isalnum() for id in ids)
        assert len(set(ids)) == len(ids)
    [call] = parse([HERMES], notation(), ANY).calls
    assert call.id.startswith("call_") and len(call.id) == 29


LONG = "ab <c> é\\n" * 3_000
LONG_CALLS = {
    "hermes": f'<tool_call>\n{{"name": "f", "arguments": {{"a": "{LONG}"}}}}\n</tool_call>',
    "qwen3-coder": f"<tool_call>\n<function=f>\n<parameter=a>\n{LONG}\n</parameter>\n</function>",
    "minimax-m3": (
        f']<]minimax[>[<tool_call>]<]minimax[>[<invoke name="f">]<]minimax[>[<a>{LONG}'
        "]<]minimax[>[</a>]<]minimax[>[</invoke>]<]minimax[>[</tool_call>"
    ),
    "pythonic": f"[f(a='{LONG}')]",
    "gemma4": f'<|tool_call>call:f{{a:<|"|>{LONG}<|"|>}}<tool_call|>',
}


@pytest.mark.parametrize("name", LONG_CALLS)
def test_long_arguments_are_looked_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty thousand characters, in pieces of three. Counted is what is looked through: had it
    been all that came before, each time, it would be five thousand times as much."""
    num_seen = 0

    def counting(method: Any) -> Any:
        def counted(self: Any, text: str, start: int = 0, **options: Any) -> Any:
            nonlocal num_seen
            num_seen += len(text) - start
            return method(self, text, start, **options) if start else method(self, text, **options)

        return counted

    for owner, method in (
        (MarkFinder, "find"), (JsonReader, "end"), (ParametersReader, "read"),
        (KeywordReader, "read"), (MarkedJsonReader, "read"), (ElementsReader, "read"),
        (HeadMatcher, "match"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, method, counting(getattr(owner, method)))
    text = LONG_CALLS[name]
    answer = parse(
        (text[at : at + 3] for at in range(0, len(text), 3)),
        notation(name),
        {"f": {"properties": {"a": {"type": "string"}}}},
    )
    assert len(answer.calls) == 1 and len(answer.calls[0].arguments) > 27_000
    assert num_seen < 6 * len(text)
