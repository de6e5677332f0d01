"""What a channel over TCP costs beside one in shared memory: `python -m tests.bench.wire`.

First a channel alone: how long a frame of 1 and of 64 tokens is on its way from one process to
another. Then the real worker between a mock engine and a load, once with each kind of channel, in
turns: how late tokens come at 1 and 64 streams, CPU of the worker a token, and tokens/s of an
engine that is free. At last two whole servers with the default model, loaded in turns:
`unisono serve --group-wire memory` and `tcp`.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from backend.wire.channel import WorkerEnd
from backend.wire.messages import SeqOutput, StepOutput, StepTimings
from gateway.bench.dialects import DIALECTS
from gateway.bench.gateway import plain_token_ids
from gateway.bench.harness import MODEL, GatewayHarness
from gateway.bench.load import percentile
from gateway.bench.streamed_request import Target
from gateway.bench.streams import Window, lateness_ms, run_streams, watch_streams
from gateway.default_model import default_model
from tests.backend.wire.tcp import pairs
from tests.backend.wire.test_channel import local_ends
from tests.e2e.server import Server

KINDS = {"memory": False, "tcp": True}
DIALECT = DIALECTS["completions"]
FREE_TOKENS = 2000
NUM_FRAMES = 500


def one_way(num_tokens: int, rounds: int) -> None:
    """Print how long frames are on their way from the step to the worker's hands."""
    late: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, is_tcp in KINDS.items():
            lead, worker = pairs.ends() if is_tcp else local_ends()
            results, child_results = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.get_context("fork").Process(
                target=_take_frames, args=(worker, child_results)
            )
            child.start()
            outputs = [SeqOutput(number, [5]) for number in range(num_tokens)]
            for _ in range(NUM_FRAMES):
                time.sleep(0.003)
                timings = StepTimings(time.monotonic())
                lead.send(StepOutput(1, outputs, timings, 10, 1, 0, 100))
            late[kind] += results.recv()
            child.join()
            lead.close()
            worker.close()
    for kind, values in late.items():
        print(f"a frame of {num_tokens} tokens, {kind}: {1e6 * statistics.median(values):.0f} us")


def _take_frames(worker: WorkerEnd, results: Connection) -> None:
    """Read as a worker's loop does, and send back how old each frame was."""
    loop = asyncio.new_event_loop()
    late: list[float] = []

    def read() -> None:
        for reply in worker.receive():
            assert isinstance(reply, StepOutput)
            late.append(time.monotonic() - reply.timings.schedule_s)
        if len(late) == NUM_FRAMES:
            loop.stop()

    worker.listen(loop, read)
    loop.run_forever()
    results.send(late)


@contextlib.contextmanager
def harnesses(model: Path, rate: float) -> Iterator[dict[str, GatewayHarness]]:
    """Start an engine and a worker with each kind of channel."""
    token_ids = plain_token_ids(model)
    with contextlib.ExitStack() as stack:
        yield {
            kind: stack.enter_context(
                GatewayHarness(model, token_ids, rate, DIALECT.event, b"{}", is_tcp=is_tcp)
            )
            for kind, is_tcp in KINDS.items()
        }


async def paced(model: Path, num_streams: int, rate: float, rounds: int, seconds: float) -> None:
    """Print how late tokens of a paced engine come, and what they cost."""
    body = DIALECT.body(MODEL, max_tokens=1_000_000, stream=True)
    windows: dict[str, list[Window]] = {kind: [] for kind in KINDS}
    with harnesses(model, rate) as both:
        for _ in range(rounds):
            for kind, harness in both.items():
                process = harness.gateway
                window = await watch_streams(
                    process.target,
                    process.child.pid,
                    DIALECT.path,
                    [body] * num_streams,
                    seconds,
                    DIALECT.form,
                )
                windows[kind].append(window)
    medians: dict[str, list[float]] = {}
    for kind, harness in both.items():
        late = [lateness_ms(window.times_s, harness.step_times_s) for window in windows[kind]]
        medians[kind] = [percentile(each, 50) * 1000 for each in late]
        p50, p99 = (
            statistics.median(percentile(each, share) for each in late) * 1000 for share in (50, 99)
        )
        cpu_us = statistics.median(window.cpu_us_per_event for window in windows[kind])
        print(
            f"{num_streams:3} streams {kind:7} p50 {p50:6.0f} p99 {p99:6.0f} us, CPU {cpu_us:.1f}"
        )
    # A round's two windows are neighbours: what others do to one they mostly do to both.
    more = sorted(tcp - memory for memory, tcp in zip(*medians.values(), strict=True))
    print(
        f"{num_streams:3} streams: TCP is later in p50 by {statistics.median(more):.0f} us, "
        f"{more[0]:.0f} to {more[-1]:.0f} by round"
    )


async def free(model: Path, num_streams: int, rounds: int) -> None:
    """Print tokens/s through a worker whose engine takes no time."""
    body = DIALECT.body(MODEL, max_tokens=FREE_TOKENS, stream=True)
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with harnesses(model, 0.0) as both:
        for _ in range(rounds):
            for kind, harness in both.items():
                process = harness.gateway
                window = await run_streams(
                    process.target,
                    process.child.pid,
                    DIALECT.path,
                    [body] * num_streams,
                    DIALECT.form,
                )
                rates[kind].append(num_streams * FREE_TOKENS / window.seconds)
    for kind, values in rates.items():
        print(f"free engine, {num_streams} streams, {kind}: {statistics.median(values):.0f} a s")


async def whole(num_streams: int, rounds: int, num_tokens: int) -> None:
    """Print tokens/s of whole servers of the default model."""
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        servers = {
            kind: stack.enter_context(
                Server("--group-wire", kind, "--kv-cache-bytes", "1073741824", "--offline")
            )
            for kind in KINDS
        }
        for number in range(rounds + 1):
            for kind, server in servers.items():
                host, port = server.url.removeprefix("http://").rsplit(":", 1)
                name = "SmolLM2-135M-Instruct"
                body = DIALECT.body(name, max_tokens=num_tokens, stream=True)
                window = await run_streams(
                    Target(host, int(port)),
                    server.session,
                    DIALECT.path,
                    [body] * num_streams,
                    DIALECT.form,
                )
                if number:  # the first round warms up
                    rates[kind].append(num_streams * num_tokens / window.seconds)
    for kind, values in rates.items():
        each = ", ".join(f"{value:.0f}" for value in values)
        print(f"default model, {num_streams} streams, {kind}: {each} tokens/s")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", choices=("channel", "mock", "model"))
    args = parser.parse_args()
    if args.only in (None, "channel"):
        for num_tokens in (1, 64):
            one_way(num_tokens, args.rounds)
    if args.only in (None, "mock"):
        model = Path(default_model())
        await paced(model, 1, 50, args.rounds, args.seconds)
        # Many steps a window: what is late is late for all 64 tokens of one.
        await paced(model, 64, 50, args.rounds, args.seconds)
        await free(model, 64, args.rounds)
    if args.only in (None, "model"):
        await whole(64, args.rounds, 64)


if __name__ == "__main__":
    asyncio.run(main())
