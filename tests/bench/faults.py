"""What the death of a rank costs those who do not die: measured on a real server.

Two groups of one rank with one thread each, streams on both, the default model. Ranks are killed,
stopped and, at last, the supervisor is; printed is how long it took until that was known, and how
the gaps between the tokens of the other group's stream grew until the dead group served again.
`python -m tests.bench.faults`; on a machine with other work the gaps say more about that.
"""

import argparse
import contextlib
import itertools
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.e2e.clients import RawStream, request
from tests.e2e.server import Server, processes_of, wait_until

PROMPT = "A long story of the sea, told by an old sailor on a quiet evening:"
NUMBERS = itertools.count(1)  # no prompt is in a cache
NORMAL_SECONDS = 8.0
RESTART_SECONDS = 120.0
HANG_SECONDS = 60.0


class Stream:
    """An endless greedy stream that is read by a thread of its own. times_s: of its events."""

    def __init__(self, url: str) -> None:
        """Return when its first token is there."""
        body = {
            "prompt": f"{next(NUMBERS)}. {PROMPT}",
            "max_tokens": 1800,
            "ignore_eos": True,
            "temperature": 0,
        }
        model = request(url, "GET", "/v1/models")[2]["data"][0]["id"]
        self.times_s: list[float] = []
        self._is_wanted = True
        self._thread = threading.Thread(target=self._read, args=(url, {**body, "model": model}))
        self._thread.start()
        wait_until(lambda: bool(self.times_s), 30, "a first token")

    def gaps_ms(self, start_s: float, end_s: float) -> list[float]:
        """The gaps that ended in a span of time."""
        times = [time_s for time_s in self.times_s if start_s <= time_s <= end_s]
        return [1e3 * (b - a) for a, b in itertools.pairwise(times)]

    def close(self) -> None:
        """Hang up."""
        self._is_wanted = False
        self._thread.join()

    def _read(self, url: str, body: dict[str, Any]) -> None:
        with RawStream(url, body) as stream:
            for _ in stream.events():
                self.times_s.append(time.monotonic())
                if not self._is_wanted:
                    return


@contextlib.contextmanager
def stream_on_each(server: Server) -> Iterator[dict[int, Stream]]:
    """A stream on each group: the number of the group -> the stream."""
    wait_until(lambda: ready(server) == {0, 1}, RESTART_SECONDS, "both groups are ready")
    wait_until(lambda: not running(server).total(), 10, "nothing runs")
    streams: dict[int, Stream] = {}
    with contextlib.ExitStack() as stack:
        while len(streams) < 2:
            group, stream = placed_stream(server)
            stack.callback(stream.close)
            if group not in streams:
                streams[group] = stream
            else:  # what a short prompt costs the other was judged wrong
                stream.close()
                wait_until(lambda: running(server).total() == len(streams), 10, "it has left")
        yield streams


def placed_stream(server: Server) -> tuple[int, Stream]:
    """Start a stream; return the number of its group, too."""
    before = running(server)
    stream = Stream(server.url)
    wait_until(lambda: running(server).total() > before.total(), 10, "it runs")
    [(group, _)] = (running(server) - before).items()
    return group, stream


def groups(server: Server) -> list[dict[str, int]]:
    """The groups as /health shows them."""
    answer: list[dict[str, int]] = request(server.url, "GET", "/health")[2]["groups"]
    return answer


def running(server: Server) -> Counter[int]:
    """How many sequences each group runs."""
    return Counter({group["group"]: group["running"] for group in groups(server)})


def ready(server: Server) -> set[int]:
    """The groups that take work."""
    return {group["group"] for group in groups(server) if group["ready"]}


def until_told(server: Server, number: signal.Signals, group: int) -> float:
    """Send a group's rank a signal; return the seconds until the log tells of its death."""
    words = f"group {group} died"
    before = server.stderr.count(words)
    pid = server.processes[f"unisono: rank {group}.0"]
    started = time.monotonic()
    os.kill(pid, number)
    while server.stderr.count(words) == before:
        assert time.monotonic() < started + HANG_SECONDS, words
        time.sleep(0.001)
    return time.monotonic() - started


@dataclass(frozen=True, slots=True)
class Kill:
    """One death: when it was told, when the group served again, the gaps of the other's stream."""

    told_s: float
    whole_s: float
    before_ms: list[float]
    meanwhile_ms: list[float]


def kill(server: Server, victim: int, *, is_busy: bool) -> Kill:
    """Kill a rank beside a stream of the other group. is_busy: it has one itself, which goes on in
    the other when it dies."""
    with stream_on_each(server) as streams:
        if not is_busy:
            streams[victim].close()
        time.sleep(NORMAL_SECONDS)
        killed_s = time.monotonic()
        told_s = until_told(server, signal.SIGKILL, victim)
        wait_until(lambda: victim not in ready(server), 10, "the gateway has heard of it")
        wait_until(lambda: ready(server) == {0, 1}, RESTART_SECONDS, "it serves again")
        whole_s = time.monotonic()
        other = streams[1 - victim]
        before = other.gaps_ms(killed_s - NORMAL_SECONDS, killed_s)
        return Kill(told_s, whole_s - killed_s, before, other.gaps_ms(killed_s, whole_s))


def describe(name: str, gaps: list[float]) -> str:
    """One row of the table of gaps."""
    p50, p99 = (statistics.quantiles(gaps, n=100)[n] for n in (49, 98))
    return f"| {name} | {len(gaps)} | {p50:.1f} | {p99:.1f} | {max(gaps):.1f} |"


def report(kills: Sequence[Kill], name: str) -> None:
    """Print what was measured of some deaths."""
    told = [1e3 * kill.told_s for kill in kills]
    whole = statistics.median(kill.whole_s for kill in kills)
    print(f"\nkill -9 of a rank {name}, {len(kills)} times")
    print(f"the log tells after {statistics.median(told):.0f} ms (median), {max(told):.0f} (most)")
    print(f"the group serves again after {whole:.1f} s\n")
    print("| gaps of the other stream, ms | gaps | p50 | p99 | most |\n|---|---|---|---|---|")
    for number, kill in enumerate(kills):
        print(describe(f"{number}, before", kill.before_ms))
        print(describe(f"{number}, meanwhile", kill.meanwhile_ms))
    print(describe("all, before", [gap for kill in kills for gap in kill.before_ms]))
    print(describe("all, meanwhile", [gap for kill in kills for gap in kill.meanwhile_ms]))


def main() -> None:
    """Kill ranks, stop ranks, kill the supervisor; print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5, help="of each kind")
    parser.add_argument("--stops", type=int, default=1)
    args = parser.parse_args()
    flags = ["--dp", "2", "--threads", "1", "--restart-limit", "100", "--restart-window-s", "1"]
    with tempfile.TemporaryDirectory() as folder:
        flags += ["--control-socket", f"{folder}/sock", "--kv-cache-bytes", str(1 << 28)]
        with Server(*flags) as server:
            for is_busy, name in ((False, "without work"), (True, "with a stream")):
                deaths = [kill(server, n % 2, is_busy=is_busy) for n in range(args.kills)]
                report(deaths, name)
            for number in range(args.stops):
                with stream_on_each(server):
                    told_s = until_told(server, signal.SIGSTOP, number % 2)
                print(f"\nSIGSTOP of a rank: the log tells after {told_s:.2f} s", flush=True)
            server.send(signal.SIGKILL)
            started_s = time.monotonic()
            wait_until(lambda: not processes_of(server.session), 10, "all are gone")
            gone_s = time.monotonic() - started_s
            print(f"\nkill -9 of the supervisor: all are gone after {1e3 * gone_s:.0f} ms")


if __name__ == "__main__":
    main()
