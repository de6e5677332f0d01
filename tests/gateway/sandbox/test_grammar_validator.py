"""Verdicts of real helper processes, and what becomes of them."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from backend.wire.sampling import Grammar
from gateway.procfs import command_line
from gateway.sandbox import grammar_validator as validation
from gateway.sandbox.grammar_validator import (
    GrammarRefused,
    GrammarValidator,
    GrammarVocabulary,
    ValidationQueueFull,
    ValidationUnavailable,
)
from gateway.sandbox.helper import HelperProcess
from tests.gateway.sandbox.children import children_of

VOCABULARY = GrammarVocabulary([b"", *(bytes([byte]) for byte in range(256))], (0,))
GOOD = Grammar("regex", "[ab]+")
# Quadratic in the search for the notation it is in.
ENDLESS = Grammar("lark", "\n" * 60_000)
# A product of 150 automata: memory or time ends first, depending on the machine.
HUGE = Grammar(
    "lark",
    "start: A\nA: " + " & ".join(f"/(a|b)*a(a|b){{{number}}}/" for number in range(10, 160)),
)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop of a worker."""
    return "asyncio", {"loop_factory": uvloop.new_event_loop}


@asynccontextmanager
async def opened(vocabulary: Callable[[], GrammarVocabulary]) -> AsyncIterator[GrammarValidator]:
    validator = GrammarValidator(vocabulary)
    try:
        yield validator
    finally:
        await validator.close()
    assert not helpers_of(os.getpid())


@pytest.fixture
async def grammar_validator() -> AsyncIterator[GrammarValidator]:
    async with opened(lambda: VOCABULARY) as validator:
        yield validator


def helpers_of(pid: int) -> list[int]:
    """The helper processes that a process has started."""
    return [
        child for child in children_of(pid) if command_line(child).startswith("unisono: helper")
    ]


async def test_usable_grammar_is_submitted_as_it_is(grammar_validator: GrammarValidator) -> None:
    for grammar in (
        GOOD,
        Grammar("choice", '["yes","no"]'),
        Grammar("lark", 'start: "a" "b"'),
    ):
        assert await grammar_validator.validate(grammar) == grammar


async def test_lenient_schema_goes_on_without_what_is_beyond_it(
    grammar_validator: GrammarValidator,
) -> None:
    texts = {"type": "string", "pattern": "^(?=.*a).+$", "maxLength": 9}
    schema = {"type": "object", "properties": {"a": texts, "b": {"not": {}}}}
    text = json.dumps({**schema, "x-guidance": {"lenient": True, "any_whitespace": True}})
    grammar, not_enforced = await grammar_validator.validate_schema(Grammar("json_schema", text))
    assert sorted(not_enforced) == ["properties.a.pattern", "properties.b.not"]
    left = json.loads(grammar.text)
    assert left.pop("x-guidance")["whitespace_flexible"] is True
    assert left == {
        "type": "object",
        "properties": {"a": {"type": "string", "maxLength": 9}, "b": {}},
    }


BLAMED: list[tuple[dict[str, Any], str]] = [
    ({"properties": {"a": {"items": {"uniqueItems": True}}}}, "properties.a.items.uniqueItems"),
    ({"properties": {"a": {"pattern": r"\bx"}, "b": {}}}, "properties.a.pattern"),
    ({"oneOf": [{"maxLength": 3}, {"type": "string"}]}, "oneOf"),
    ({"properties": {"a": {"$ref": "#/nowhere"}}}, "properties.a.$ref"),
]


async def test_strict_schema_is_refused_by_the_keyword_to_blame(
    grammar_validator: GrammarValidator,
) -> None:
    for schema, path in BLAMED:
        with pytest.raises(GrammarRefused) as caught:
            await grammar_validator.validate(Grammar("json_schema", json.dumps(schema)))
        assert caught.value.path == path and str(caught.value).startswith(f"{path}: ")


async def test_gbnf_is_submitted_as_lark(grammar_validator: GrammarValidator) -> None:
    grammar = await grammar_validator.validate(Grammar("lark", 'root ::= "yes" | "no"'))
    assert "start:" in grammar.text and "::=" not in grammar.text


MANY_FIELDS = {
    "type": "object",
    "properties": {f"p{index}": {"type": "integer"} for index in range(1500)},
}
UNUSABLE = [
    (Grammar("json_schema", '{"type":"bogus"}'), "type: it must be one of the seven types"),
    (Grammar("json_schema", '{"$ref":"#"}'), "nothing matches it"),
    (Grammar("regex", "(a"), "unclosed group"),
    (Grammar("json_schema", json.dumps(MANY_FIELDS)), "too complex"),
]


async def test_unusable_grammar_is_refused_with_its_reason(
    grammar_validator: GrammarValidator,
) -> None:
    for grammar, reason in UNUSABLE:
        with pytest.raises(GrammarRefused, match=reason):
            await grammar_validator.validate(grammar)


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [(ENDLESS, "too complex to compile"), (HUGE, "too much memory to compile|too complex")],
)
async def test_helper_that_dies_of_a_grammar_is_replaced(
    grammar_validator: GrammarValidator,
    hostile: Grammar,
    reason: str,
) -> None:
    assert await grammar_validator.validate(GOOD) == GOOD
    assert len(helpers_of(os.getpid())) == 1
    with pytest.raises(GrammarRefused, match=reason):
        await grammar_validator.validate(hostile)
    assert not helpers_of(os.getpid())
    with pytest.raises(GrammarRefused, match=reason):
        await grammar_validator.validate(hostile)
    assert not helpers_of(os.getpid()), "from memory"
    other = Grammar("regex", "c")
    assert await grammar_validator.validate(other) == other


async def test_helper_that_does_not_answer_is_replaced(
    grammar_validator: GrammarValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await grammar_validator.validate(GOOD)
    [first] = helpers_of(os.getpid())
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(validation, "CLOCK_LIMIT_S", 0.1)
    other = Grammar("regex", "c")
    with pytest.raises(ValidationUnavailable):
        await grammar_validator.validate(other)
    assert not helpers_of(os.getpid())
    monkeypatch.setattr(validation, "CLOCK_LIMIT_S", 120.0)
    # It was nobody's fault, so it is not held against the grammar.
    assert await grammar_validator.validate(other) == other


@pytest.fixture
def kill_once_asked() -> Iterator[Callable[[signal.Signals], None]]:
    """Has the next request's helper end by a signal, when it has been found alive and chosen.

    One that is dead before it is asked is replaced, and nobody notices.
    """

    def arm(number: signal.Signals) -> None:
        def ask_and_kill(process: HelperProcess, payload: bytes, limit_s: float) -> bytes:
            patch.undo()
            [helper] = helpers_of(os.getpid())
            os.kill(helper, number)
            return process.exchange(payload, limit_s)

        patch.setattr(HelperProcess, "exchange", ask_and_kill)

    with pytest.MonkeyPatch.context() as patch:
        yield arm


async def test_helper_that_is_killed_is_replaced(
    grammar_validator: GrammarValidator, kill_once_asked: Callable[[signal.Signals], None]
) -> None:
    await grammar_validator.validate(GOOD)
    kill_once_asked(signal.SIGKILL)
    other = Grammar("regex", "c")
    with pytest.raises(ValidationUnavailable):
        await grammar_validator.validate(other)
    assert await grammar_validator.validate(other) == other


async def test_helper_that_aborts_without_memory_blames_its_grammar(
    grammar_validator: GrammarValidator, kill_once_asked: Callable[[signal.Signals], None]
) -> None:
    await grammar_validator.validate(GOOD)
    kill_once_asked(signal.SIGABRT)  # how native code ends when an allocation fails
    with pytest.raises(GrammarRefused, match="too much memory"):
        await grammar_validator.validate(Grammar("regex", "c"))


async def test_cancelled_request_leaves_the_exchange_whole(
    grammar_validator: GrammarValidator,
) -> None:
    await grammar_validator.validate(GOOD)
    slow = asyncio.create_task(grammar_validator.validate(Grammar("regex", "(.*a){20}")))
    await asyncio.sleep(0)
    slow.cancel()
    assert await grammar_validator.validate(Grammar("choice", '["a"]')) == Grammar(
        "choice", '["a"]'
    )


async def test_grammars_at_once_share_a_helper_and_repeats_ask_once(
    grammar_validator: GrammarValidator,
) -> None:
    grammars = [Grammar("regex", f"a{{{number % 20}}}b") for number in range(100)]
    assert await asyncio.gather(*map(grammar_validator.validate, grammars)) == grammars
    assert len(helpers_of(os.getpid())) == 1


async def test_too_many_waiting_are_turned_away(
    grammar_validator: GrammarValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.sandbox.helper.MAX_WAITING", 2)

    jobs = [grammar_validator.validate(Grammar("regex", f"a{{{number}}}")) for number in range(5)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results].count(ValidationQueueFull) == 3


async def test_who_waits_too_long_is_turned_away(
    grammar_validator: GrammarValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "WAIT_LIMIT_S", 0.001)

    with pytest.raises(ValidationUnavailable):
        await grammar_validator.validate(GOOD)


async def test_memory_of_results_is_bounded(
    grammar_validator: GrammarValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "CACHE_BYTES", 4 * validation.ENTRY_BYTES)

    grammars = [Grammar("regex", "a" * number) for number in range(1, 9)]
    for grammar in grammars:
        await grammar_validator.validate(grammar)
    [helper] = helpers_of(os.getpid())
    os.kill(helper, signal.SIGSTOP)  # whoever needs it now gets no answer
    monkeypatch.setattr(validation, "WAIT_LIMIT_S", 0.05)
    assert await grammar_validator.validate(grammars[-1]) == grammars[-1]
    with pytest.raises(ValidationUnavailable):
        await grammar_validator.validate(grammars[0])


async def test_vocabulary_that_cannot_be_had_refuses_every_grammar() -> None:
    def no_vocabulary() -> GrammarVocabulary:
        raise ValueError("its tokens have no bytes")

    async with opened(no_vocabulary) as validator:
        with pytest.raises(GrammarRefused, match="no bytes"):
            await validator.validate(GOOD)


WORKER = """
import asyncio
from backend.wire.sampling import Grammar
from gateway.sandbox.grammar_validator import GrammarValidator, GrammarVocabulary
async def main():
    await GrammarValidator(lambda: GrammarVocabulary([b"a"], ())).validate(Grammar("regex", "a"))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def test_helper_dies_with_its_worker() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == b"ready\n"
        [helper] = helpers_of(worker.pid)
        pidfd = os.pidfd_open(helper)
        try:
            os.kill(helper, signal.SIGSTOP)  # even so
            worker.kill()
            assert select.select([pidfd], [], [], 10)[0] == [pidfd]
        finally:
            os.close(pidfd)


def test_worker_side_loads_neither_the_library_nor_torch() -> None:
    code = (
        "import gateway.requests.grammars, sys;"
        "sys.exit(any(name in sys.modules for name in ('llguidance', 'torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
