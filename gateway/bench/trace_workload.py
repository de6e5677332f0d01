"""Turns the requests of a trace into bodies: prompts of its lengths, alike where it says so.

A trace in Mooncake's form has no texts: words are drawn for each of its blocks, the same for the
same block in one pass. No pass finds anything of another in a prefix cache.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.bench.client import fetch_json
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.trace import HASHED_TOKENS, Trace, TraceRequest
from gateway.bench.workload import Workload, calibrate, random_ids, random_words

# Where a server does not count tokens: English has about four letters a token.
_LETTERS_A_TOKEN = 4


@dataclass(slots=True)
class TraceWorkload:
    """A RequestSource of a trace, whose requests are taken in order and then from the beginning.

    base: what all requests have beside prompt and length. length_scale: of Mooncake's lengths, to
    fit a model with a shorter context. num_reply_tokens: by the text of the reply, since a file may
    have all its conversations on one line. surplus: words beyond the tokens wanted that make a
    prompt as long as the server shall count it.
    """

    trace: Trace
    base: Workload
    length_scale: float = 1.0
    num_reply_tokens: dict[str, int] = field(default_factory=dict)
    surplus: int = 0
    is_estimated: bool = False
    _position: int = 0

    @property
    def timeout_s(self) -> float:
        return self.base.timeout_s

    def bodies(self, num_requests: int) -> list[dict[str, Any]]:
        """Compose the next requests. A trace that is read again gives other prompts, as long and
        as much alike as before."""
        nonce = self.base.rng.getrandbits(64)
        return [self._body(request, nonce) for request in self._next(num_requests)]

    def warm_up_bodies(self, num_requests: int) -> list[dict[str, Any]]:
        """Compose requests for a few tokens each, with prompts of the load's usual length."""
        return self.base.warm_up_bodies(num_requests)

    def notes(self) -> list[str]:
        """Say what a reader of the figures must know of the trace."""
        notes = [f"{len(self.trace.requests)} requests of a trace in {self.trace.form}'s form"]
        if self.length_scale != 1:
            notes.append(f"lengths times {self.length_scale:g}")
        if self.trace.num_skipped:
            notes.append(
                f"{self.trace.num_skipped} conversations without an answered question were left out"
            )
        if self.is_estimated:
            notes.append(f"{_LETTERS_A_TOKEN} letters are taken for a token of a reply")
        return ["; ".join(notes)]

    def _next(self, num_requests: int) -> Iterator[TraceRequest]:
        for _ in range(num_requests):
            yield self.trace.requests[self._position % len(self.trace.requests)]
            self._position += 1

    def _body(self, request: TraceRequest, nonce: int) -> dict[str, Any]:
        max_tokens = self._scaled(request.num_output_tokens)
        if not request.num_output_tokens:
            max_tokens = self.num_reply_tokens[request.reply]
        body = self.base.request(max_tokens)
        # What the load's own fields say of its length is not for these.
        body.pop("min_tokens", None)
        body["max_tokens"] = max_tokens
        body["prompt"] = request.prompt or self._drawn_prompt(request, nonce)
        if request.prompt and self._position >= len(self.trace.requests):
            salt = " ".join(random_words(random.Random(f"{nonce} {request.line}"), 4))
            body["prompt"] = f"{salt}: {request.prompt}"
        return body

    def _drawn_prompt(self, request: TraceRequest, nonce: int) -> str | list[int]:
        num_tokens = self._scaled(request.num_prompt_tokens)
        block_tokens = max(1, round(HASHED_TOKENS * self.length_scale))
        draw = random_ids if self.base.prompt_ids else random_words
        items: list[Any] = []
        for block_id in request.block_ids or (f"line {request.line}",):
            count = block_tokens if request.block_ids else num_tokens
            items += draw(random.Random(f"{nonce} {block_id}"), count)
        if self.base.prompt_ids:
            return items[:num_tokens]
        wanted = max(1, num_tokens + self.surplus)
        return " ".join(items[:wanted])

    def _scaled(self, num_tokens: int) -> int:
        return max(1, round(num_tokens * self.length_scale))


async def prepare(target: Target, workload: TraceWorkload, num_used: int) -> None:
    """Learn from the server how long prompts get, and replies are. Raises BenchError.

    num_used: as many requests from the beginning will be asked for.
    """
    requests = workload.trace.requests[:num_used]
    if requests[0].prompt:
        for request in requests:
            reply = request.reply
            workload.num_reply_tokens[reply] = await _count(target, workload, reply)
        return
    lengths = sorted(workload._scaled(request.num_prompt_tokens) for request in requests)
    base = workload.base
    base.prompt_tokens = base.num_words = lengths[len(lengths) // 2]
    await calibrate(target, base)
    workload.surplus = base.num_words - base.prompt_tokens


async def _count(target: Target, workload: TraceWorkload, text: str) -> int:
    """Return how many tokens a text has, by the server's own count where it has one."""
    if not workload.is_estimated:
        body = {"model": workload.base.model, "prompt": text, "add_special_tokens": False}
        try:
            answer = await fetch_json(target, "/tokenize", body=body)
            return max(1, msgspec.convert(answer["count"], int))
        except (BenchError, KeyError, TypeError, msgspec.ValidationError):
            workload.is_estimated = True
    return max(1, len(text) // _LETTERS_A_TOKEN)
