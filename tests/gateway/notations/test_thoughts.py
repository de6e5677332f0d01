"""The tokens of thoughts are counted."""

import pytest

from gateway.notations.thoughts import ThoughtCounter
from tests.gateway.notations.parsing import notation


@pytest.mark.parametrize(
    ("tokens", "is_thinking", "num_tokens"),
    [
        (["<think>", "a", "</think>", "b"], False, 3),
        (["\n", "<th", "ink>", "a", "</", "think>\n", "b", "<think>"], False, 5),
        (["a", "</think>", "b", "</think>"], True, 2),
        (["a", "b"], True, 2),
        (["a", "<think>", "b"], False, 0),
        ([], True, 0),
    ],
)
def test_tokens_of_thoughts_are_counted(
    tokens: list[str], is_thinking: bool, num_tokens: int
) -> None:
    counter = ThoughtCounter(notation("hermes", "think"), is_thinking=is_thinking)
    for token in tokens:
        counter.push(token)
    assert counter.num_tokens == num_tokens


@pytest.mark.parametrize(
    ("text", "is_thinking", "said"),
    [
        ('<think>a</think>\n{"a": "</think>"}', False, '\n{"a": "</think>"}'),
        ("a</think>b", True, "b"),
        ("a", True, ""),
        ("<b></think>", False, "<b></think>"),
    ],
)
def test_what_is_said_stands_behind_the_thought(text: str, is_thinking: bool, said: str) -> None:
    counter = ThoughtCounter(notation("hermes", "think"), is_thinking=is_thinking)
    assert counter.behind(text) == said


def test_mark_of_no_thought_is_not_what_is_said() -> None:
    counter = ThoughtCounter(notation("minimax-m3", "minimax-m3"), is_thinking=False)
    for text in ("</mm:think>a", "<mm:think>b</mm:think>a", "a"):
        assert counter.behind(text) == "a"


def test_thoughts_in_channels_are_counted() -> None:
    counter = ThoughtCounter(notation("harmony", "harmony"), is_thinking=False)
    tokens = ["<|channel|>", "analysis", "<|message|>", "a", "b", "<|end|>"]
    for token in [*tokens, "<|start|>", "assistant", *tokens[:3], "c"]:
        counter.push(token)
    assert counter.num_tokens == len(tokens) + 4
