import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.wire.messages import FinishReason, SeqOutput
from backend.wire.sampling import SamplingParams
from gateway.answers.choice import Choice, Token
from gateway.answers.generation import Generation
from gateway.errors import ApiError
from gateway.pool.submit_options import SubmitOptions
from gateway.requests.prompt import Prompt
from gateway.schema.usage import Usage
from gateway.text.stops import StopMatcher
from tests.gateway.fakes import ByteDetokenizer, FakePool
from tests.gateway.text.stop_texts import few_letters, stopped, stops

LENGTH, STOP = FinishReason.LENGTH, FinishReason.STOP


@dataclass(slots=True)
class Record:
    """A sink that remembers."""

    texts: dict[int, list[str]] = field(default_factory=dict)
    tokens: dict[int, list[Token]] = field(default_factory=dict)
    usage: Usage | None = None
    error: str = ""

    def write(self, choice: Choice, text: str, tokens: Sequence[Token]) -> None:
        self.texts.setdefault(choice.index, []).append(text)
        self.tokens.setdefault(choice.index, []).extend(tokens)

    def finish(self, usage: Usage) -> None:
        assert self.usage is None
        self.usage = usage

    def fail(self, error: ApiError) -> None:
        assert not self.error
        self.error = error.message


@dataclass(slots=True)
class World:
    """One started request over a fake pool; choices are numbered like its sequences."""

    pool: FakePool
    sink: Record
    choices: list[Choice]
    generation: Generation


def begin(
    stop: tuple[str, ...] = (),
    *,
    n: int = 1,
    prompts: tuple[Prompt, ...] = (Prompt([1, 2]),),
    max_tokens: int = 99,
) -> World:
    pool, sink = FakePool(), Record()
    choices = [
        Choice(
            p * n + i,
            prompt,
            SamplingParams(choice=i, max_tokens=max_tokens),
            ByteDetokenizer(),
            StopMatcher(stop) if stop else None,
        )
        for p, prompt in enumerate(prompts)
        for i in range(n)
    ]
    generation = Generation(pool, sink, choices)  # type: ignore[arg-type]
    generation.start()
    return World(pool, sink, choices, generation)


@given(
    st.one_of(st.binary(max_size=30), few_letters.map(str.encode)),
    stops,
    st.lists(st.integers(1, 4), min_size=60, max_size=60),
    st.booleans(),
)
def test_text_does_not_depend_on_how_tokens_come_in_frames(
    tokens: bytes, stop: tuple[str, ...], sizes: list[int], is_finish_alone: bool
) -> None:
    """Split characters, broken ones, stop strings in the last flush: all by one definition."""
    world = begin(stop)
    position = 0
    for size in sizes:
        frame = tokens[position : position + size]
        position += size
        is_last = position >= len(tokens) and not is_finish_alone
        world.pool.send(0, frame, LENGTH if is_last else None)
        if is_last:
            break
    world.pool.send(0, b"", LENGTH)
    text, found = stopped(tokens.decode("utf-8", "replace"), stop)
    assert "".join(world.sink.texts[0]) == text
    assert world.choices[0].finish_reason == (STOP if found else LENGTH)
    assert world.sink.usage is not None
    assert world.sink.usage.completion_tokens <= len(tokens)
    if not found:
        assert world.sink.usage.completion_tokens == len(tokens)


def test_tokens_of_the_stop_string_count_and_later_ones_do_not() -> None:
    world = begin(("cd",))
    world.pool.send(0, b"abcdefg")
    assert world.sink.usage is not None
    assert world.sink.usage.completion_tokens == 4
    assert "".join(world.sink.texts[0]) == "ab"


def test_stop_string_aborts_a_running_sequence_once() -> None:
    world = begin(("b",))
    world.pool.send(0, b"ab")
    world.pool.send(0, b"cc")
    world.generation.close()
    assert world.pool.aborted == [0]
    ended = begin(("b",))
    ended.pool.send(0, b"ab", LENGTH)
    ended.generation.close()
    assert ended.pool.aborted == []
    assert ended.choices[0].finish_reason == STOP


def test_stop_string_that_ends_in_flushed_text_counts() -> None:
    world = begin(("\ufffd",))
    world.pool.send(0, b"ok\xf0\x9f", LENGTH)
    assert "".join(world.sink.texts[0]) == "ok"
    assert world.choices[0].finish_reason == STOP


def test_half_a_character_never_leaves() -> None:
    world = begin()
    for byte in "é😀".encode():
        world.pool.send(0, [byte])
    assert world.sink.texts[0] == ["é", "😀"]


def test_echo_comes_before_the_first_token_of_each_choice() -> None:
    world = begin(n=2, prompts=(Prompt([1], echo="so: "),))
    world.pool.play(0, b"a", LENGTH)
    world.pool.play(1, b"b", LENGTH)
    assert world.sink.texts == {0: ["so: ", "a"], 1: ["so: ", "b"]}


def test_stop_string_in_the_echo_does_not_stop() -> None:
    world = begin(("so",), prompts=(Prompt([1], echo="so: "),))
    world.pool.play(0, b"a", LENGTH)
    assert world.sink.texts == {0: ["so: ", "a"]}


def test_without_output_tokens_the_engine_is_not_asked() -> None:
    world = begin(max_tokens=0, prompts=(Prompt([1, 2], echo="so"), Prompt([3])))
    assert world.pool.submitted == {}
    assert world.sink.texts == {0: ["so", ""], 1: [""]}
    assert [choice.finish_reason for choice in world.choices] == [LENGTH, LENGTH]
    assert world.sink.usage is not None
    assert world.sink.usage.total_tokens == 3


def test_usage_counts_a_prompt_once_and_every_choice() -> None:
    world = begin(n=2, prompts=(Prompt([1, 2, 3]), Prompt([4])))
    for seq_id, num_cached_tokens in enumerate([2, 3, 0, 1]):
        world.pool.send(seq_id, b"x", num_cached_tokens=num_cached_tokens)
        world.pool.send(seq_id, b"y", LENGTH)
    usage = world.sink.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 8, 12)
    assert usage.prompt_tokens_details.cached_tokens == 2


def test_request_ends_with_its_last_choice() -> None:
    world = begin(n=2)
    world.pool.play(1, b"a", LENGTH)
    assert world.sink.usage is None
    world.pool.play(0, b"a", STOP)
    assert world.sink.usage is not None


@pytest.mark.parametrize("reason", [FinishReason.ERROR, FinishReason.ABORT])
def test_failed_sequence_fails_the_request_and_aborts_the_rest(reason: FinishReason) -> None:
    world = begin(n=3)
    world.pool.play(0, b"a", LENGTH)
    world.pool.send(1, b"", reason, error="rank 0 died")
    world.pool.send(2, b"late")
    assert world.sink.error == "rank 0 died"
    assert world.sink.usage is None
    assert world.pool.running == set()
    assert 0 not in world.pool.aborted


def test_broken_detokenizer_fails_its_own_request_only() -> None:
    """The caller dispatches frames of every request; an exception here would end them all."""
    world = begin()
    world.pool.send(0, [-1])
    assert "turn tokens into text" in world.sink.error
    assert world.pool.aborted == [0]


def test_refused_submit_takes_back_the_earlier_ones() -> None:
    pool = FakePool(refusal=RuntimeError("full"), refuse_at=2)
    choices = [
        Choice(i, Prompt([1]), SamplingParams(choice=i), ByteDetokenizer()) for i in range(4)
    ]
    sink = Record()
    generation = Generation(pool, sink, choices)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="full"):
        generation.start()
    assert pool.aborted == [0, 1]
    assert sink.texts == {}


def test_frames_of_unknown_sequences_are_ignored() -> None:
    world = begin()
    world.generation.receive(SeqOutput(77, [65]))
    assert world.sink.texts == {}


def test_sequence_refused_during_submit_fails_the_request() -> None:
    """The pool tells so before submit() returns, when nobody could know its seq_id yet."""

    class Refusing(FakePool):
        def submit(self, *args: Any, **options: Any) -> int:
            seq_id = super().submit(*args, **options)
            self.send(seq_id, [], FinishReason.ERROR, error="larger than the ring")
            return seq_id

    pool, sink = Refusing(), Record()
    choice = Choice(0, Prompt([1]), SamplingParams(), ByteDetokenizer())
    Generation(pool, sink, [choice]).start()  # type: ignore[arg-type]
    assert sink.error == "larger than the ring"


def test_nothing_is_submitted_after_the_deadline() -> None:
    pool = FakePool()
    choice = Choice(0, Prompt([1]), SamplingParams(), ByteDetokenizer())
    options = SubmitOptions(deadline=time.monotonic() - 1, timeout_s=2)
    generation = Generation(pool, Record(), [choice], options)  # type: ignore[arg-type]
    with pytest.raises(ApiError, match="timeout of 2 seconds") as refused:
        generation.start()
    assert refused.value.status == 408
    assert pool.submitted == {}


async def test_engine_that_gives_up_at_the_deadline_is_a_deadline_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, sink = FakePool(), Record()
    choice = Choice(0, Prompt([1]), SamplingParams(), ByteDetokenizer())
    options = SubmitOptions(deadline=time.monotonic() + 1000, timeout_s=1)
    Generation(pool, sink, [choice], options).start()  # type: ignore[arg-type]
    monkeypatch.setattr("gateway.pool.submit_options.time.monotonic", lambda: options.deadline)
    pool.send(0, [], FinishReason.ABORT)
    assert "timeout of 1 seconds" in sink.error


def test_timings_begin_with_the_first_sequence_sent() -> None:
    world = begin(n=2)
    world.generation.sent(1)
    sent = world.generation.timings.sent
    world.generation.sent(0)
    world.pool.play(0, b"a", LENGTH)
    world.pool.play(1, b"a", LENGTH)
    timings = world.generation.timings
    assert timings.sent == sent
    assert 0 < timings.submitted <= sent <= timings.first_token <= timings.finished
