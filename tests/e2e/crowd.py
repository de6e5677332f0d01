"""Many streams at once, and something that happens in their middle."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.e2e.clients import RawStream
from tests.e2e.server import wait_until

BEGIN_SECONDS = 60.0
BEGUN_CHUNKS = 8


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
    url: str, requests: list[dict[str, Any]], disturb: Callable[[], object] = lambda: None
) -> list[str]:
    """Stream all at once, disturb when each has had some tokens; return the whole texts."""
    begun = [threading.Event() for _ in requests]
    with ThreadPoolExecutor(len(requests)) as threads:
        answers = [
            threads.submit(_ask, url, body, event)
            for body, event in zip(requests, begun, strict=True)
        ]
        wait_until(
            lambda: all(e.is_set() or a.done() for e, a in zip(begun, answers, strict=True)),
            BEGIN_SECONDS,
            "all streams have begun",
        )
        disturb()
        return [answer.result() for answer in answers]


def _ask(url: str, body: dict[str, Any], has_begun: threading.Event) -> str:
    pieces: list[str] = []
    with RawStream(url, body) as stream:
        for chunk in stream.chunks():
            assert "error" not in chunk, chunk
            pieces += [choice["text"] for choice in chunk["choices"]]
            if len(pieces) == BEGUN_CHUNKS:
                has_begun.set()
    return "".join(pieces)
