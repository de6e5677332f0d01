"""Many streams at once, and something that happens in their middle."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any, TypeVar

from tests.e2e.clients import RawStream
from tests.e2e.server import wait_until

T = TypeVar("T")
# Sends a request, calls what it is given for every piece of the answer, and returns the whole.
Ask = Callable[[Callable[[], None]], T]

BEGIN_SECONDS = 60.0
BEGUN_PIECES = 8
# Of requests that are to last until somebody ends them: SLOWLY has a server take 5 ms a step then.
SLOW_SEED = 1_000_001
SLOWLY = ("--test-faults", f"slow:seed={SLOW_SEED}")
# For the end of what would go on for a minute and more if nobody ended it.
FREED_SECONDS = 20.0
# On a machine that has much else to do, some answers are over before the last has begun.
NUM_ATTEMPTS = 5


def slow(requests: Iterable[dict[str, Any]]) -> str:
    """Faults by which a step with any of some requests takes milliseconds, and not almost none."""
    return " ".join(f"slow:seed={fields['seed']}" for fields in requests)


def at_once(asks: Sequence[Ask[T]], disturb: Callable[[], object] | None = None) -> list[T]:
    """Ask all at once, disturb when each has had some of its answer; return the whole answers.

    Where one was over by then they are asked again, before anything has been disturbed.
    """
    for _ in range(NUM_ATTEMPTS):
        answers, was_in_time = _attempt(asks, disturb)
        if was_in_time:
            return answers
    raise AssertionError("an answer was over before the disturbance, each time")


def _attempt(asks: Sequence[Ask[T]], disturb: Callable[[], object] | None) -> tuple[list[T], bool]:
    """Return the answers, and whether none was over when the last had begun."""
    begun = [Event() for _ in asks]
    with ThreadPoolExecutor(len(asks)) as threads:
        answers = [
            threads.submit(ask, partial(_note, itertools.count(1), event))
            for ask, event in zip(asks, begun, strict=True)
        ]
        if disturb is None:
            return [answer.result() for answer in answers], True
        wait_until(partial(_have_begun, answers, begun), BEGIN_SECONDS, "all streams have begun")
        was_in_time = not any(answer.done() for answer in answers)
        if was_in_time:
            disturb()
        return [answer.result() for answer in answers], was_in_time


def _note(count: "itertools.count[int]", has_begun: Event) -> None:
    if next(count) == BEGUN_PIECES:
        has_begun.set()


def _have_begun(answers: Sequence[Future[T]], begun: Sequence[Event]) -> bool:
    pairs = zip(answers, begun, strict=True)
    return all(answer.done() or has_begun.is_set() for answer, has_begun in pairs)


def requests_of(count: int, max_tokens: int) -> list[dict[str, Any]]:
    """Requests that a tiny random model answers at length: greedy and seeded in turns."""
    return [
        {
            "model": "tiny",
            "prompt": f"{number} a b c d",
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "temperature": number % 2,
            "seed": number,
        }
        for number in range(count)
    ]


def ask_all(
    url: str, requests: list[dict[str, Any]], disturb: Callable[[], object] | None = None
) -> list[str]:
    """Stream all at once, and disturb as at_once() does; return the whole texts."""
    return at_once([partial(_ask, url, body) for body in requests], disturb)


def _ask(url: str, body: dict[str, Any], on_piece: Callable[[], None]) -> str:
    pieces: list[str] = []
    with RawStream(url, body) as stream:
        for chunk in stream.chunks():
            assert "error" not in chunk, chunk
            pieces += [choice["text"] for choice in chunk["choices"]]
            on_piece()
    return "".join(pieces)
