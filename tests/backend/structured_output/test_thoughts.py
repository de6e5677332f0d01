"""Thoughts come before what a grammar holds, and end in time."""

import msgspec
import numpy as np
import pytest

from backend.structured_output.grammar import GrammarTable
from backend.structured_output.thoughts import ThoughtMatcher
from backend.wire.sampling import Grammar, Thought

END, OPEN, CLOSE, JOINED = 256, 257, 258, 259
PIECES = [bytes([byte]) for byte in range(256)] + [b"", b"", b"", b"x</t>\n"]
TABLE = GrammarTable(PIECES, [END])
OBJECT = Grammar("json_schema", '{"enum": [{"a": 1}]}')
MARKS = {
    "special": Thought((CLOSE,), "</t>", (OPEN,), space_ids=(10, 32)),
    "text": Thought(tuple(b"</t>"), "</t>", tuple(b"<t>"), space_ids=(10, 32)),
}


def matcher(
    marks: str, *, is_open: bool = False, budget: int | None = None, has_grammar: bool = True
) -> ThoughtMatcher:
    given = MARKS[marks]
    thought = Thought(
        given.closing, given.closing_text, () if is_open else given.opening, budget, given.space_ids
    )
    new = (lambda: TABLE.matcher(OBJECT)) if has_grammar else None
    return ThoughtMatcher(thought, PIECES, [END], new)


def tokens(text: str, marks: str) -> list[int]:
    if marks == "text":
        return list(text.encode())
    return list(text.replace("<t>", "\x01").replace("</t>", "\x02").encode())


def accepts(one: ThoughtMatcher, text: str, marks: str) -> bool:
    """Whether a text is accepted, token by token, and each token was in the mask before."""
    ids = [{1: OPEN, 2: CLOSE}.get(t, t) for t in tokens(text, marks)] + [END]
    for token_id in ids:
        out = np.zeros(9, np.int32)
        one.mask(out)
        is_allowed = bool(out[token_id // 32] >> (token_id % 32) & 1)
        assert is_allowed or not one.accept(token_id)
        if not is_allowed or not one.accept(token_id):
            return False
    return True


@pytest.mark.parametrize("marks", MARKS)
def test_grammar_begins_after_the_thought(marks: str) -> None:
    for said in ('{"a": 1}', '\n\n{"a": 1}', '\n{"a": 1}'):
        assert accepts(matcher(marks), f"<t>hm {{</t>{said}", marks), said
        assert accepts(matcher(marks, is_open=True), f"hm {{</t>{said}", marks), said
    assert accepts(matcher(marks), '{"a": 1}', marks)
    assert not accepts(matcher(marks), "<t>hm</t>no", marks)
    assert not accepts(matcher(marks), "hm", marks)
    assert not accepts(matcher(marks), "<t>hm", marks)
    assert not accepts(matcher(marks), '<t>hm</t>\n\n\n{"a": 1}', marks)


@pytest.mark.parametrize("marks", MARKS)
def test_line_break_may_come_before_a_thought(marks: str) -> None:
    """GLM's models write one: with a strict tool they could not think behind it."""
    given = MARKS[marks]
    text = Grammar("lark", "start: TEXT\nTEXT: /[a-z \\n]+/\n")
    for said, is_good in (
        ("\n<t>HM</t>no", True), ("\nno", True), ("<t>HM</t>\nno", True), ("a<t>HM</t>no", False),
        ("\n<t>HM</t>NO", False), ("\nNO", False),
    ):  # fmt: skip
        one = ThoughtMatcher(given, PIECES, [END], lambda: TABLE.matcher(text))
        assert accepts(one, said, marks) == is_good, said


@pytest.mark.parametrize("marks", MARKS)
def test_end_of_a_thought_may_stand_for_none(marks: str) -> None:
    """MiniMax M3's models begin answers without a thought so."""
    thought = msgspec.structs.replace(MARKS[marks], closes_alone=True)
    for said, is_good in (
        ('</t>{"a": 1}', True), ('</t>\n{"a": 1}', True), ('<t>hm</t>{"a": 1}', True),
        ('{"a": 1}', True), ("</t>no", False), ('</t></t>{"a": 1}', False), ("</t>", False),
    ):  # fmt: skip
        one = ThoughtMatcher(thought, PIECES, [END], lambda: TABLE.matcher(OBJECT))
        assert accepts(one, said, marks) == is_good, said
    assert not accepts(matcher(marks), '</t>{"a": 1}', marks)


@pytest.mark.parametrize("marks", MARKS)
@pytest.mark.parametrize("budget", [0, 1, 5])
@pytest.mark.parametrize("has_grammar", [True, False])
def test_thought_ends_when_it_has_had_its_tokens(
    marks: str, budget: int, has_grammar: bool
) -> None:
    def limited(is_open: bool = True) -> ThoughtMatcher:
        return matcher(marks, is_open=is_open, budget=budget, has_grammar=has_grammar)

    thought = "abcdefgh"
    assert accepts(limited(), f'{thought[:budget]}</t>{{"a": 1}}', marks)
    assert not accepts(limited(), f'{thought[: budget + 1]}</t>{{"a": 1}}', marks)
    assert accepts(limited(False), f'<t>{thought[:budget]}</t>{{"a": 1}}', marks)
    assert not accepts(limited(False), f'<t>{thought}</t>{{"a": 1}}', marks)


def test_thought_may_end_within_a_token() -> None:
    one = matcher("text", is_open=True)
    assert one.accept(JOINED)
    assert accepts(one, '{"a": 1}', "text")


def test_anything_goes_where_only_the_budget_is_held() -> None:
    one = matcher("special", is_open=True, budget=2, has_grammar=False)
    assert one.is_free and one.accept(97) and one.accept(98)
    assert not one.is_free and one.accept(CLOSE)
    assert one.is_free and one.accept(99) and one.is_free


# Texts in which a call is <c>1</c>, however often.
CALLS = Grammar(
    "lark",
    'start: held* TEXT?\nTEXT: /(.|\\n)+/\nheld: until "1</c>"\nuntil[lazy]: /(.|\\n)*<c>/\n',
)


def calling(marks: str, budget: int | None = None) -> ThoughtMatcher:
    given = MARKS[marks]
    thought = Thought(given.closing, given.closing_text, (), budget, given.space_ids)
    return ThoughtMatcher(
        thought, PIECES, [END], lambda: TABLE.matcher(OBJECT), TABLE.matcher(CALLS)
    )


@pytest.mark.parametrize("marks", MARKS)
def test_calls_within_a_thought_are_held(marks: str) -> None:
    """A strict tool that was called before the end of the thought was called with anything."""
    assert accepts(calling(marks), 'hm <c </t>{"a": 1}', marks)
    assert not accepts(calling(marks), "hm <c>2</c>", marks)
    assert not accepts(calling(marks), 'hm </t>{"a": 2}', marks)
    # The call that was demanded has come: more may come, and nothing must.
    assert accepts(calling(marks), "hm <c>1</c>", marks)
    assert accepts(calling(marks), "hm <c>1</c> well </t> all <c>1</c>", marks)
    assert not accepts(calling(marks), "hm <c>1</c></t><c>2</c>", marks)
    assert not accepts(calling(marks), "hm <c>1", marks)


def test_thought_does_not_end_within_its_call() -> None:
    assert accepts(calling("special", budget=4), "h<c>1</c></t>", "special")
    assert not accepts(calling("special", budget=4), "h<c>1</c>x</t>", "special")
    assert not accepts(calling("special"), "h<c></t>1</c>", "special")


def test_other_special_tokens_may_come_in_a_thought_beside_calls() -> None:
    one = calling("special")
    assert accepts(one, 'a<t>b</t>{"a": 1}', "special")


def test_end_of_several_special_tokens_is_found() -> None:
    thought = Thought((CLOSE, 116, OPEN), "</t>t<t>")
    one = ThoughtMatcher(thought, PIECES, [END], lambda: TABLE.matcher(OBJECT))
    assert accepts(one, '</t>x</t>t<t>{"a": 1}', "special")
