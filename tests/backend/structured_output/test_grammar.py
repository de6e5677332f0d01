"""Masks against expectations worked out without the library, and outputs against jsonschema."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.structured_output.grammar import GrammarError, GrammarTable, Matcher, to_lark
from backend.wire.sampling import Grammar
from tests.schemas import SCHEMAS

NUM_SPECIAL = 3
END = 2
WORDS = ["ab", "abc", "true", "false", "null", '{"', '":', '",', '"}', "}]", "é", "漢", " \n", "12"]
PIECES = [b""] * NUM_SPECIAL + [bytes([byte]) for byte in range(256)]
PIECES += [word.encode() for word in WORDS] + [b"ab"]  # one of them twice
VOCAB_SIZE = len(PIECES) + 40  # a model with rows that no token has
TABLE = GrammarTable(PIECES, (END,))


def allowed(matcher: Matcher, vocab_size: int = VOCAB_SIZE) -> set[int]:
    """The ids whose bits a mask of vocab_size tokens has set."""
    words = np.full(-(-vocab_size // 32), -1, dtype=np.int32)
    matcher.mask(words)
    return set(np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist())


def expected(is_prefix: Callable[[bytes], bool], may_end: bool, output: bytes) -> set[int]:
    """The ids after which `output` can still become a match."""
    ids = {token_id for token_id, piece in enumerate(PIECES) if piece and is_prefix(output + piece)}
    return ids | {END} if may_end else ids


def follow(matcher: Matcher, output: bytes) -> None:
    for byte in output:
        assert matcher.accept(NUM_SPECIAL + byte)


def walk(matcher: Matcher, draw: random.Random, max_tokens: int = 400) -> bytes | None:
    """Draw allowed tokens until the end; None when it does not come.

    Closing characters and the end are taken more often, so that it does.
    """
    output = b""
    for _ in range(max_tokens):
        ids = sorted(allowed(matcher))
        if END in ids and (len(ids) == 1 or draw.random() < 0.5):
            assert matcher.accept(END) and matcher.is_finished
            return output
        ids = [token_id for token_id in ids if token_id != END]
        closing = [token_id for token_id in ids if PIECES[token_id] in (b'"', b"]", b"}")]
        choice = draw.choice(closing if closing and draw.random() < 0.5 else ids)
        assert matcher.accept(choice)
        output += PIECES[choice]
    return None


CHOICES = ["ab", "abc", "abab", "true", "é漢", 'a "quoted" \\ one', "line\nbreak\x7f\x00"]


@pytest.mark.parametrize("prefix", ["", "a", "ab", "abab", "é", "line\nbreak"])
def test_choice_allows_what_continues_one_of_them(prefix: str) -> None:
    matcher = TABLE.matcher(Grammar("choice", json.dumps(CHOICES)))
    follow(matcher, prefix.encode())
    texts = [choice.encode() for choice in CHOICES]
    want = expected(
        lambda text: any(choice.startswith(text) for choice in texts),
        prefix in CHOICES,
        prefix.encode(),
    )
    assert allowed(matcher) == want


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=4))
def test_any_text_can_be_a_choice(choices: list[str]) -> None:
    for choice in choices:
        matcher = TABLE.matcher(Grammar("choice", json.dumps(choices)))
        follow(matcher, choice.encode())
        assert END in allowed(matcher)


def test_bounded_number_allows_digits_that_stay_inside() -> None:
    matcher = TABLE.matcher(Grammar("json_schema", '{"type":"integer","minimum":7,"maximum":31}'))
    numbers = [str(number).encode() for number in range(7, 32)]
    for output in (b"", b"1", b"3", b"9", b"12"):
        matcher = TABLE.matcher(
            Grammar("json_schema", '{"type":"integer","minimum":7,"maximum":31}')
        )
        follow(matcher, output)
        want = expected(
            lambda text: any(number.startswith(text) for number in numbers),
            output in numbers,
            output,
        )
        assert allowed(matcher) == want, output


def test_object_follows_its_schema_byte_by_byte() -> None:
    schema = {"properties": {"a": {"type": "boolean"}}, "required": ["a"], "type": "object"}
    grammar = Grammar("json_schema", json.dumps({**schema, "additionalProperties": False}))
    matcher = TABLE.matcher(grammar)
    assert {PIECES[token_id] for token_id in allowed(matcher)} == {b"{", b'{"'}
    follow(matcher, b'{"a":')
    starts = {b" ", b"t", b"true", b"f", b"false"}
    assert {PIECES[token_id] for token_id in allowed(matcher)} == starts
    follow(matcher, b"true")
    assert {PIECES[token_id] for token_id in allowed(matcher)} == {b"}"}
    follow(matcher, b"}")
    assert allowed(matcher) == {END}


def accepts(schema: dict[str, Any], text: str) -> bool:
    """Whether an output may be this text."""
    matcher = TABLE.matcher(Grammar("json_schema", json.dumps(schema)))
    return all(matcher.accept(NUM_SPECIAL + byte) for byte in text.encode()) and END in allowed(
        matcher
    )


PAIR = {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "string"}}}


@pytest.mark.parametrize("schema", [PAIR, {"type": "object"}])
def test_json_is_one_line_as_models_write_it(schema: dict[str, Any]) -> None:
    """The default model put every token on a line of its own."""
    for text in ('{"a":[1,2],"b":"x"}', '{"a": [1, 2], "b": "x"}', '{"a": [],"b": ""}', "{}"):
        assert accepts(schema, text), text
    for text in ('{ "a":[]}', '{"a":\n[]}', '{"a":  []}', '{"a" :[]}', '{"a":[] }', "{}\n"):
        assert not accepts(schema, text), text


def test_white_space_is_free_where_it_was_asked_for() -> None:
    free = {**PAIR, "x-guidance": {"any_whitespace": True}}
    for text in ('{"a":[1,2],"b":"x"}', '{\n  "a": [\n    1\n  ]\n}', '{ "a" : [ ] }'):
        assert accepts(free, text), text


def test_free_white_space_is_bounded() -> None:
    """A model that may write whitespace without end sometimes does."""
    text = '{"type":"object","x-guidance":{"any_whitespace":true}}'
    matcher = TABLE.matcher(Grammar("json_schema", text))
    follow(matcher, b"{\n" + b" " * 40)
    assert not allowed(matcher) & {NUM_SPECIAL + byte for byte in b" \n\t\r"}


def test_texts_beside_declared_names_have_one_spelling() -> None:
    """Names that are left to the model could be spelled as nobody checks them."""
    open_object = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert accepts(open_object, '{"n":1,"m":"x"}')
    assert not accepts(open_object, '{"\\u006d":1}')
    assert accepts({**open_object, "additionalProperties": False}, '{"n":1}')
    # Control characters that the schema has itself can still be written.
    control = {"type": "object", "properties": {"n": {"enum": ["a\x01"]}}, "required": ["n"]}
    assert accepts(control, '{"n":"a\\u0001"}')


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_output_of_random_walks_validates(name: str) -> None:
    schema = SCHEMAS[name]
    grammar = Grammar("json_schema", json.dumps(schema))
    draw = random.Random(name)
    outputs = [walk(TABLE.matcher(grammar), draw) for _ in range(12)]
    complete = [output for output in outputs if output is not None]
    assert len(complete) >= 4
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for output in complete:
        validator.validate(json.loads(output))


REGEXES = [
    r"(ab|abc)+",
    r"[a-c]{2,4}",
    r"\d{3}-\d{2}",
    r"(a/b|a\\b)?",
    r"^true|false$",
    r"[^a-z\n]x",
    r"é?漢{1,2}",
    r"a.c",
    "a\nb",
    r"(?i)ok",
    r"\x41\u0042",
    '"[^"]{0,3}"',
]


@pytest.mark.parametrize("regex", REGEXES)
def test_walks_through_a_regex_match_it_whole(regex: str) -> None:
    draw = random.Random(regex)
    outputs = [walk(TABLE.matcher(Grammar("regex", regex)), draw, 40) for _ in range(10)]
    complete = [output for output in outputs if output is not None]
    assert complete
    for output in complete:
        assert re.fullmatch(regex.strip("^$"), output.decode()), output


@pytest.mark.parametrize("regex", REGEXES)
@given(text=st.text('abckO\n/\\"-0123trufé漢xB', max_size=6))
def test_regex_accepts_exactly_what_it_matches(regex: str, text: str) -> None:
    matcher = TABLE.matcher(Grammar("regex", regex))
    fits = all(matcher.accept(NUM_SPECIAL + byte) for byte in text.encode())
    may_end = fits and END in allowed(matcher)
    assert may_end == bool(re.fullmatch(regex.strip("^$"), text))


@pytest.mark.parametrize(
    "text",
    [
        'root ::= answer ", " answer\nanswer ::= "yes" | "no"\n',
        'start: answer ", " answer\nanswer: "yes" | "no"\n',
    ],
)
def test_both_notations_of_grammars_are_read(text: str) -> None:
    matcher = TABLE.matcher(Grammar("lark", text))
    follow(matcher, b"yes, n")
    assert {PIECES[token_id] for token_id in allowed(matcher)} == {b"o"}
    assert to_lark(Grammar("lark", to_lark(Grammar("lark", text)))) == to_lark(
        Grammar("lark", text)
    )


def test_special_tokens_are_produced_by_no_grammar() -> None:
    for text in ('start: <[1]> | "a"', 'start: <[*]> | "a"'):
        ids = allowed(TABLE.matcher(Grammar("lark", text)))
        assert not ids & {0, 1, END} and NUM_SPECIAL + ord("a") in ids
    assert not TABLE.matcher(Grammar("lark", "start: <[1]>")).accept(1)


def test_eos_tokens_are_allowed_only_where_the_grammar_may_end() -> None:
    table = GrammarTable([*PIECES, b"<end>"], (1, len(PIECES)))
    matcher = table.matcher(Grammar("regex", "a*b?"))
    assert {1, len(PIECES)} <= allowed(matcher)
    follow(matcher, b"b")
    assert allowed(matcher) == {1, len(PIECES)}
    assert matcher.is_finished
    matcher = table.matcher(Grammar("regex", "ab"))
    follow(matcher, b"a")
    assert not allowed(matcher) & {1, len(PIECES)}
    assert not matcher.accept(1)


def test_model_without_end_tokens_finishes_all_the_same() -> None:
    matcher = GrammarTable(PIECES, ()).matcher(Grammar("regex", "ab"))
    follow(matcher, b"ab")
    assert matcher.is_finished
    with pytest.raises(GrammarError, match="no token"):
        allowed(matcher)


@pytest.mark.parametrize("vocab_size", [40, 256, len(PIECES), 512, 1024])
def test_masks_have_the_size_of_the_models_vocabulary(vocab_size: int) -> None:
    ids = allowed(TABLE.matcher(Grammar("regex", "(?s:.*)")), vocab_size)
    limit = min(-(-vocab_size // 32) * 32, len(PIECES))
    assert ids <= set(range(limit))
    assert {token_id for token_id in range(NUM_SPECIAL, 32)} & ids
    assert END in ids


def test_output_replayed_leads_to_the_same_place() -> None:
    grammar = Grammar("json_schema", json.dumps(SCHEMAS["order"]))
    draw = random.Random(1)
    first, ids = TABLE.matcher(grammar), []
    for _ in range(60):
        ids.append(draw.choice(sorted(allowed(first) - {END})))
        assert first.accept(ids[-1])
    again = TABLE.matcher(grammar)
    assert all(map(again.accept, ids))
    assert allowed(again) == allowed(first)


def test_matchers_of_one_grammar_are_independent() -> None:
    grammar = Grammar("regex", "ab|cd")
    first, second = TABLE.matcher(grammar), TABLE.matcher(grammar)
    follow(first, b"a")
    assert {PIECES[token_id] for token_id in allowed(second)} == {b"a", b"ab", b"c"}


@pytest.mark.parametrize("token_id", [0, NUM_SPECIAL + ord("b"), len(PIECES), 2**31 - 1])
def test_token_that_does_not_fit_is_not_accepted(token_id: int) -> None:
    matcher = TABLE.matcher(Grammar("regex", "a+"))
    assert not matcher.accept(token_id)


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("json_schema", '{"type":"bogus"}', "Invalid type: bogus"),
        ("json_schema", '{"not":{}}', 'Unimplemented keys: ["not"]'),
        ("json_schema", '{"$ref":"#/nowhere"}', "Pointer '/nowhere' does not exist"),
        ("json_schema", '{"type":"string","pattern":"(?=a)"}', "look-around"),
        ("json_schema", r'{"type":"string","pattern":"^\\bab\\b$"}', "look-around and"),
        ("json_schema", '{"oneOf":[{"type":"number"},{"type":"integer"}]}', "exclude each other"),
        ("json_schema", '{"$ref":"https://example.com/a"}', "it refers to what is not in"),
        ("json_schema", "[]", "it is not an object"),
        ("json_schema", "{", "it is not JSON"),
        ("regex", "(a", "regex parse error: unclosed group"),
        ("regex", r"(a)\1", "backreferences are not supported"),
        ("regex", "a\\", "a backslash that escapes nothing"),
        ("regex", ".*" * 1000, "it is too complex"),
        ("lark", "start: foo", 'unknown name: "foo"'),
        ("lark", "start: <|end|>", 'unknown special token: "<|end|>"'),
        ("lark", 'root ::= ("a"', "Expected ')'"),
        ("lark", "root ::= " + "(" * 20_000, "it nests too deep"),
        ("lark", 'start: "a"\n%llguidance {"no_forcing": false}', "directives"),
    ],
)
def test_unusable_grammar_is_refused_in_one_line(kind: str, text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        TABLE.matcher(msgspec.convert([kind, text], Grammar))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 300


def test_grammar_that_nothing_matches_fails_at_the_first_mask() -> None:
    for grammar in (Grammar("regex", r"[^\s\S]"), Grammar("json_schema", '{"$ref":"#"}')):
        matcher = TABLE.matcher(grammar)
        words = np.full(10, 7, dtype=np.int32)
        with pytest.raises(GrammarError, match="nothing matches it"):
            matcher.mask(words)
        assert (words == 7).all()


def test_costs_of_one_token_are_bounded() -> None:
    """1,500 optional properties all compete after the first quote."""
    properties = {f"p{index}": {"type": "integer"} for index in range(1500)}
    schema = {"type": "object", "properties": properties}
    matcher = TABLE.matcher(Grammar("json_schema", json.dumps(schema)))
    assert not matcher.accept(PIECES.index(b'{"'))
    with pytest.raises(GrammarError, match="too complex"):
        allowed(matcher)
