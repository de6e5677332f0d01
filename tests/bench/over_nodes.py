"""A model over two nodes by tensor parallel, by stages, or as two whole groups, on a slow link.

Two network namespaces stand for the nodes, with a link between them whose delay and rate are set
(tests/e2e/tunnel.py); each rank has one thread. Needs root. `python -m tests.bench.over_nodes
--model PATH --delays-us 50 500 5000 --gbits 10 1`. A client beside the first node's ranks asks for
the same streams of each arm; it prints tokens/s and the time to the first token.
"""

import argparse
import asyncio
import contextlib
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.settings import EngineSettings
from backend.wire.control import Dial
from backend.wire.messages import StepOutput, Submit
from backend.wire.sampling import SamplingParams
from backend.wire.tcp.dial import dial
from backend.wire.tcp.ends import TcpWorkerEnd
from backend.wire.tcp.handshake import Hello
from backend.wire.tcp.stream import Stream
from tests.e2e.agents import EPOCH, Incarnation, group
from tests.e2e.tunnel import NETWORK

ARMS = {"tp": (2, 1, 2), "pp": (1, 2, 2), "dp": (1, 1, 1)}  # tp, pp, nodes of a group
NODES = "unisono-bench-1", "unisono-bench-2"
HOST = f"{NETWORK}.1"


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: so many streams at once of prompts of random ids."""

    num_streams: int
    prompt_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Figures:
    """first_s: median time to the first token. rate: tokens/s of all streams after it."""

    first_s: float
    rate: float


@contextlib.contextmanager
def link(delay_us: float, gbits: float) -> Iterator[None]:
    """Connect the nodes while it lasts."""
    command = [sys.executable, "-m", "tests.e2e.tunnel", *NODES, str(delay_us), str(gbits)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as tunnel:
        assert tunnel.stdout is not None
        try:
            assert tunnel.stdout.readline() == b"up\n"
            yield
        finally:
            tunnel.kill()


@contextlib.asynccontextmanager
async def arm(model: str, name: str) -> AsyncIterator[list[Incarnation]]:
    """Start the groups of an arm: one over both nodes, or one on each."""
    tp, pp, nodes = ARMS[name]
    engine = EngineSettings(
        model=model, tp=tp, pp=pp, nodes=nodes, threads=1, kv_cache_bytes=1 << 28, device="cpu"
    )
    within = [["ip", "netns", "exec", node] for node in NODES]
    places = [within] if nodes == 2 else [within[:1], within[1:]]
    async with contextlib.AsyncExitStack() as stack:
        groups = [
            await stack.enter_async_context(group(engine, host=HOST, within=place))
            for place in places
        ]
        yield [incarnation for incarnation, _, _ in groups]


class Client:
    """A worker of each group."""

    def __init__(self, groups: Sequence[Incarnation]) -> None:
        self._ends: list[tuple[Stream, TcpWorkerEnd]] = []
        for each in groups:
            message = each.replica.connect(0, 12).message
            assert isinstance(message, Dial)
            stream = dial(message.address, Hello(0, 0, 12, EPOCH))
            self._ends.append((stream, TcpWorkerEnd(stream)))
        self._next_id = 1

    def run(self, load: Load) -> Figures:
        """Send the load's streams to the groups in turn; wait for all."""
        params = SamplingParams(max_tokens=load.max_tokens, temperature=0.0, ignore_eos=True)
        began_s = time.monotonic()
        left: dict[int, int] = {}
        for number in range(load.num_streams):
            self._next_id += 1
            prompt = [(7 * self._next_id + 13 * n) % 40000 for n in range(load.prompt_tokens)]
            _, end = self._ends[number % len(self._ends)]
            assert end.send(Submit(self._next_id, prompt, [], params))
            left[self._next_id] = load.max_tokens
        firsts: dict[int, float] = {}
        while left:
            select.select([stream for stream, _ in self._ends], [], [], 60)
            now_s = time.monotonic()
            for _, end in self._ends:
                for reply in end.receive():
                    outputs = reply.outputs if isinstance(reply, StepOutput) else []
                    for output in outputs:
                        assert not output.error, output.error
                        firsts.setdefault(output.seq_id, now_s - began_s)
                        left[output.seq_id] -= len(output.token_ids)
                        if left[output.seq_id] <= 0:
                            del left[output.seq_id]
        decoding_s = time.monotonic() - began_s - max(firsts.values())
        num_tokens = load.num_streams * (load.max_tokens - 1)
        return Figures(statistics.median(firsts.values()), num_tokens / max(decoding_s, 1e-9))

    def close(self) -> None:
        for _, end in self._ends:
            end.close()


async def measure(model: str, name: str, loads: Sequence[Load]) -> list[Figures]:
    async with arm(model, name) as groups:
        client = Client(groups)
        await asyncio.to_thread(client.run, Load(2, 64, 4))
        figures = [await asyncio.to_thread(client.run, load) for load in loads]
        client.close()
    return figures


def run_arms(model: str, names: Sequence[str], title: str) -> None:
    """Measure within the first node's namespace; print a row for each arm."""
    loads = Load(1, 512, 32), Load(16, 32, 32)
    for name in names:
        one, many = asyncio.run(measure(model, name, loads))
        print(
            f"| {title} | {name} | {one.first_s * 1e3:.0f} | {one.rate:.1f} | {many.rate:.0f} |",
            flush=True,
        )


def main() -> None:
    """Make the nodes, and measure each arm on each link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--delays-us", type=float, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--gbits", type=float, nargs="+", default=[10, 1])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--within", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.within:
        run_arms(str(args.model), args.arms, args.within)
        return
    for node in NODES:
        if Path(f"/run/netns/{node}").exists():  # of a run that was killed
            subprocess.run(["ip", "netns", "delete", node], check=True)
        subprocess.run(["ip", "netns", "add", node], check=True)
        subprocess.run(["ip", "-n", node, "link", "set", "lo", "up"], check=True)
    own = [sys.executable, "-m", "tests.bench.over_nodes", "--model", str(args.model.absolute())]
    print("| link | arm | first token of 512, ms | 1 stream | 16 streams |\n|---|---|---|---|---|")
    try:
        for gbits in args.gbits:
            for delay_us in args.delays_us:
                # The tunnel's own passing on is a part of the delay.
                with link(max(0.0, delay_us - OWN_DELAY_US), gbits):
                    title = f"{delay_us / 1e3:g} ms, {gbits:g} Gb/s"
                    command = ["ip", "netns", "exec", NODES[0], *own, "--within", title]
                    subprocess.run([*command, "--arms", *args.arms], check=True, env=os.environ)
    finally:
        for node in NODES:
            subprocess.run(["ip", "netns", "delete", node], check=True)


# One way through the tunnel without a delay: an echo of 2,304 bytes took 40 us both ways.
OWN_DELAY_US = 20.0


if __name__ == "__main__":
    main()
