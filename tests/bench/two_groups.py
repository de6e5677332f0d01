"""Two groups behind one pool, against two servers that take turns: what a load balancer would do.

All have one rank with one thread a group and the default model. Requests of mixed lengths arrive at
random, the same ones for both; the arms alternate. `python -m tests.bench.two_groups`.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.bench.client import Answer, stream_completion
from gateway.bench.streamed_request import Target
from gateway.bench.workload import Workload
from tests.e2e.server import Server

MODEL = "bench"
PROMPTS, OUTPUTS = (32, 64, 128, 1500), (8, 32, 128)
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. time_s: from the start."""

    time_s: float
    num_prompt_tokens: int
    max_tokens: int


def arrivals(seed: int, count: int, rate: float) -> list[Arrival]:
    """Draw requests at `rate` a second."""
    rng = random.Random(seed)
    time_s, drawn = 0.0, []
    for _ in range(count):
        time_s += rng.expovariate(rate)
        drawn.append(Arrival(time_s, rng.choice(PROMPTS), rng.choice(OUTPUTS)))
    return drawn


async def serve(arriving: Sequence[Arrival], targets: Sequence[Target]) -> list[float]:
    """Send each request when it is due, to the targets in turn; return the TTFTs in seconds."""

    async def send(number: int, arrival: Arrival) -> Answer:
        await asyncio.sleep(arrival.time_s)
        workload = Workload(MODEL, prompt_tokens=arrival.num_prompt_tokens, prompt_ids=True)
        body = workload.request(arrival.max_tokens)
        return await stream_completion(targets[number % len(targets)], body, TIMEOUT_S)

    answers = await asyncio.gather(*(send(n, each) for n, each in enumerate(arriving)))
    failed = [answer.error for answer in answers if answer.error]
    assert not failed, failed
    return [answer.text_times_s[0] - answer.started_s for answer in answers]


def row(name: str, ttfts: Sequence[float]) -> str:
    """Return a row of the table in tests/bench/README.md."""
    p50, p90, p99 = (statistics.quantiles(ttfts, n=100)[n - 1] for n in (50, 90, 99))
    return f"| {name} | {p50:.2f} | {p90:.2f} | {p99:.2f} | {statistics.fmean(ttfts):.2f} |"


def main() -> None:
    """Print a table of TTFT in seconds after each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--rate", type=float, default=1.5, help="requests a second")
    args = parser.parse_args()
    common = ["--threads", "1", "--kv-cache-bytes", str(1 << 28), "--no-access-log"]
    common += ["--served-model-name", MODEL]
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())

        def start(number: int, *flags: str) -> Target:
            socket = ("--control-socket", f"{folder}/{number}")
            return Target.parse(stack.enter_context(Server(*common, *socket, *flags)).url)

        arms = {
            "two servers in turn": [start(0), start(1)],
            "one pool": [start(2, "--dp", "2")],
        }
        ttfts: dict[str, list[float]] = {name: [] for name in arms}
        for seed in range(args.rounds):
            for name, targets in arms.items():
                drawn = arrivals(seed, args.requests, args.rate)
                ttfts[name] += asyncio.run(serve(drawn, targets))
            print("\n| TTFT, s | p50 | p90 | p99 | mean |\n|---|---|---|---|---|")
            print("\n".join(row(name, times) for name, times in ttfts.items()), flush=True)


if __name__ == "__main__":
    main()
