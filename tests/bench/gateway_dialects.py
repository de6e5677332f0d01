"""What a streamed token costs a gateway worker, in each dialect and with parsers, in turns.

`python -m tests.bench.gateway_dialects`: the figures of `unisono bench gateway`, all cases beside
each other in every round, so that what else the machine does falls on all of them alike. What a
request takes before its first token is none of a token's: streams at a pace are watched in their
middle, and of free-running ones long are compared with short.
"""

import argparse
import asyncio
import statistics
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass

from gateway.bench.dialects import DIALECTS
from gateway.bench.gateway import plain_token_ids
from gateway.bench.harness import MODEL, GatewayHarness
from gateway.bench.streams import run_streams, watch_streams
from gateway.bench.written import TOOLS, WRITTEN
from gateway.default_model import default_model
from gateway.text.tokenizer import Tokenizer

STREAMS = 64
STEPS_PER_S = 25.0
NUMS_FREE_TOKENS = (200, 2200)


@dataclass(frozen=True)
class Case:
    """One cell of the table."""

    dialect: str
    writes: str

    def body(self, max_tokens: int) -> bytes:
        more = WRITTEN[self.writes].fields(self.dialect)
        return DIALECTS[self.dialect].body(MODEL, max_tokens=max_tokens, stream=True, more=more)


def cases() -> list[Case]:
    """Every dialect and what it has events a token for."""
    plain = [Case(dialect, "plain") for dialect in DIALECTS]
    parsed = [Case(dialect, writes) for dialect in TOOLS for writes in WRITTEN if writes != "plain"]
    return plain + [case for case in parsed if case != Case("ollama", "arguments")]


async def measure(rounds: int, seconds: float, wanted: list[Case]) -> None:
    """Print us of CPU a token: paced, free-running, and how many times what completions take."""
    model = default_model()
    words, tokenizer = plain_token_ids(model), Tokenizer.load(model)
    paced: dict[Case, list[float]] = defaultdict(list)
    free: dict[Case, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        harnesses = {
            (writes, rate): stack.enter_context(
                GatewayHarness(
                    model,
                    words,
                    rate,
                    b"x\n\n",
                    b"x",
                    WRITTEN[writes],
                    WRITTEN[writes].first_ids(tokenizer),
                )
            )
            for writes in {case.writes for case in wanted}
            for rate in (STEPS_PER_S, 0.0)
        }
        for _ in range(rounds):
            for case in wanted:
                dialect = DIALECTS[case.dialect]
                harness = harnesses[case.writes, STEPS_PER_S]
                worker = harness.gateway
                bodies = [case.body(1_000_000)] * STREAMS
                window = await watch_streams(
                    worker.target,
                    worker.child.pid,
                    dialect.path,
                    bodies,
                    seconds,
                    dialect.form,
                    head_s=harness.head_s,
                )
                paced[case].append(window.cpu_us_per_event)
                worker = harnesses[case.writes, 0.0].gateway
                spent_s = []
                for num_tokens in NUMS_FREE_TOKENS:
                    bodies = [case.body(num_tokens)] * STREAMS
                    window = await run_streams(
                        worker.target, worker.child.pid, dialect.path, bodies, dialect.form
                    )
                    spent_s.append(window.cpu_seconds)
                num_tokens = STREAMS * (NUMS_FREE_TOKENS[1] - NUMS_FREE_TOKENS[0])
                free[case].append(1e6 * (spent_s[1] - spent_s[0]) / num_tokens)
    base = Case("completions", "plain")
    for case in wanted:
        cells = []
        for figures in (paced, free):
            us = statistics.median(figures[case])
            spread = f"{min(figures[case]):.2f}-{max(figures[case]):.2f}"
            cells.append(f"{us:6.2f} ({spread}) {us / statistics.median(figures[base]):.2f}x")
        print(f"{case.dialect:12}{case.writes:10}" + "   ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--only", nargs="*", default=[], help="dialects, beside completions")
    given = parser.parse_args()
    names = {"completions", *(given.only or DIALECTS)}
    wanted = [case for case in cases() if case.dialect in names]
    asyncio.run(measure(given.rounds, given.seconds, wanted))


if __name__ == "__main__":
    main()
