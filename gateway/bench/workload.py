"""What the requests of a run ask for: prompts of an exact length, all distinct.

Lengths are the server's own count, learned from its `usage`. Knows nothing of levels and times.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.bench.client import stream_completion
from gateway.bench.streamed_request import BenchError, Target

# Each is one token with its leading space in the vocabularies of SmolLM2 (checked) and, being
# common, in most others; what differs is corrected from the server's count.
_WORDS = (
    "river mountain bridge garden winter summer paper silver engine letter market island forest "
    "window kitchen doctor farmer student captain village machine signal number pattern measure "
    "balance journey history science music color shadow morning evening quiet simple heavy narrow "
    "bright ancient modern common local early late open build carry follow gather listen observe "
    "prepare return travel turn watch write under over between before after around through without "
    "every many several other same first second last"
).split()
# Ids that any vocabulary has: byte-level ones begin with some special ids and 256 bytes.
_SAFE_IDS = range(100, 250)
_WARM_UP_TOKENS = 8


class RequestSource(Protocol):
    """Where the bodies of a load come from. timeout_s: an answer not whole by then has failed."""

    @property
    def timeout_s(self) -> float: ...

    def bodies(self, num_requests: int) -> list[dict[str, Any]]:
        """Compose the next requests of the load; none finds its prompt in a prefix cache, but
        where that is the load's own doing."""

    def warm_up_bodies(self, num_requests: int) -> list[dict[str, Any]]:
        """Compose requests like those, but with short answers."""


@dataclass(slots=True)
class Workload:
    """What every request of a run asks for; each prompt is new, so no prefix cache helps.

    extra: fields that are merged into each request; what asks for a length is cut to that of a
    shorter one. num_words: how many words of text make prompt_tokens tokens, corrected by
    calibrate().
    """

    model: str
    prompt_tokens: int = 128
    max_tokens: int = 128
    temperature: float = 0.0
    ignore_eos: bool = True
    prompt_ids: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 900.0
    rng: random.Random = field(default_factory=random.Random)
    num_words: int = 0

    def __post_init__(self) -> None:
        self.num_words = self.num_words or self.prompt_tokens

    def bodies(self, num_requests: int) -> list[dict[str, Any]]:
        """Compose requests, each with a prompt of its own."""
        return [self.request(self.max_tokens) for _ in range(num_requests)]

    def warm_up_bodies(self, num_requests: int) -> list[dict[str, Any]]:
        """Compose requests for a few tokens each."""
        return [self.request(_WARM_UP_TOKENS) for _ in range(num_requests)]

    def request(self, max_tokens: int) -> dict[str, Any]:
        """Compose the body of one request, with a prompt of its own.

        max_tokens: fewer than the load's to calibrate and to warm up.
        """
        body = {
            "model": self.model,
            "prompt": self._prompt(),
            "max_tokens": max_tokens,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        # Left out when false: not every server knows the field.
        ignoring = {"ignore_eos": True} if self.ignore_eos else {}
        return body | ignoring | self.extra | self._cut(max_tokens)

    def _cut(self, max_tokens: int) -> dict[str, Any]:
        """What takes the place of extra fields in a request shorter than the load's.

        min_tokens is less by as much, so that one that the load cannot have is refused at once.
        """
        num_cut = self.max_tokens - max_tokens
        cut = {"max_tokens": max_tokens}
        if isinstance(least := self.extra.get("min_tokens"), int):
            cut["min_tokens"] = max(0, least - num_cut)
        return cut if num_cut > 0 else {}

    def _prompt(self) -> str | list[int]:
        if self.prompt_ids:
            return random_ids(self.rng, self.prompt_tokens)
        return " ".join(random_words(self.rng, self.num_words))


def random_words(rng: random.Random, count: int) -> list[str]:
    """Draw words that are one token each in most vocabularies."""
    return rng.choices(_WORDS, k=count)


def random_ids(rng: random.Random, count: int) -> list[int]:
    """Draw token ids that every vocabulary has."""
    return rng.choices(_SAFE_IDS, k=count)


async def calibrate(target: Target, workload: Workload) -> None:
    """Correct the number of words until the server counts prompt_tokens, three times at most.

    Raises BenchError when the server refuses the request: no level would fare better.
    """
    for _ in range(3):
        answer = await stream_completion(target, workload.request(1), workload.timeout_s)
        if answer.error:
            raise BenchError(f"{target} refused a first request: {answer.error}")
        if workload.prompt_ids or answer.num_prompt_tokens in (None, workload.prompt_tokens):
            return
        surplus = answer.num_prompt_tokens - workload.prompt_tokens
        workload.num_words = max(1, workload.num_words - surplus)
