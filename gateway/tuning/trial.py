"""One measurement of one candidate, and what it is worth to whoever asked.

Knows no servers and no settings: a candidate is a name here.
"""

from math import exp, log
from typing import Literal

import msgspec

Goal = Literal["throughput", "latency"]


class Trial(msgspec.Struct, frozen=True):
    """What a server did under the load, once.

    request_ms: from a request's start to its last token, of one in the middle. The p99 figures are
    those that 99 % of requests, or of gaps between tokens, stay below. other_cores: that programs
    of others took meanwhile. failure: why there are no figures; they are 0 then. may_pass: whether
    another time it may go otherwise; too little memory stays too little.
    """

    tokens_per_s: float = 0.0
    request_ms: float = 0.0
    ttft_p50_ms: float = 0.0
    ttft_p99_ms: float = 0.0
    itl_p50_ms: float = 0.0
    itl_p99_ms: float = 0.0
    memory_bytes: int = 0
    other_cores: float = 0.0
    failure: str = ""
    may_pass: bool = False


class Objective(msgspec.Struct, frozen=True):
    """What is wanted: the most tokens/s, or the shortest request; within limits of 99 % of the
    times to a first token and between tokens, in ms (0: none)."""

    goal: Goal = "throughput"
    max_ttft_ms: float = 0.0
    max_itl_ms: float = 0.0

    def worth(self, trial: Trial) -> float:
        """Return the logarithm of what is to be as large as it can: differences are shares."""
        return log(trial.tokens_per_s) if self.goal == "throughput" else -log(trial.request_ms)

    def miss(self, trial: Trial) -> float:
        """Return the logarithm of how many times a limit the worst figure is: 0 and less meets.

        -inf where there are no limits.
        """
        pairs = [(trial.ttft_p99_ms, self.max_ttft_ms), (trial.itl_p99_ms, self.max_itl_ms)]
        ratios = [log(max(ms, 1e-3) / limit) for ms, limit in pairs if limit]
        return max(ratios, default=float("-inf"))

    def misses(self, trial: Trial) -> list[str]:
        """Say which limits a trial is beyond, and by how much."""
        pairs = [
            ("time to the first token (p99)", trial.ttft_p99_ms, self.max_ttft_ms),
            ("time between tokens (p99)", trial.itl_p99_ms, self.max_itl_ms),
        ]
        return [
            f"{name}: {ms:,.0f} ms, {ms / limit - 1:.0%} beyond the {limit:,.0f} ms asked for"
            for name, ms, limit in pairs
            if limit and ms > limit
        ]

    def __str__(self) -> str:
        words = "most tokens/s" if self.goal == "throughput" else "shortest request"
        limits = [
            f"{name} within {limit:g} ms"
            for name, limit in (("TTFT p99", self.max_ttft_ms), ("ITL p99", self.max_itl_ms))
            if limit
        ]
        return ", ".join([words, *limits])


def percent(share: float) -> float:
    """Return what a difference of logarithms is in percent."""
    return 100 * (exp(share) - 1)
