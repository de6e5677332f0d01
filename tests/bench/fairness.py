"""What one key's flood does to another key's time to first token, on a real server.

The flood: so many streams of one key, each followed by the next at once, prompts of 128 tokens and
64 of output. The other key sends one request at a time, after a pause of up to half a second, alone
and beside the flood in turns.
`python -m tests.bench.fairness` prints medians; flags behind `--` go to the server.
"""

import argparse
import contextlib
import itertools
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.bench.workload import Workload
from gateway.security.key_file import add_key
from gateway.security.keys import create_key
from gateway.tenant import KeyScope
from tests.e2e.clients import RawStream
from tests.e2e.server import Server

MODEL = "bench"
FLOOD_PROMPT, FLOOD_OUTPUT = 128, 64
# A flood's prompts and outputs are mixed so long after its first stream.
SETTLE_SECONDS = 6.0
# Longer than a step, or each request would come just after one had begun.
MAX_PAUSE_SECONDS = 0.5


def new_key(path: Path, name: str) -> str:
    """Add a key to a file of keys and return it."""
    key, kept = create_key(name, [KeyScope.INFER])
    add_key(path, kept)
    return key


class Client:
    """Someone with a key."""

    def __init__(self, server: Server, key: str) -> None:
        self._url, self._key = server.url, key
        self.num_done = 0

    def ttft_s(self, num_tokens: int) -> float:
        """Send a prompt of so many tokens; return the seconds until the first comes back."""
        body = _workload(num_tokens).request(1)
        started_s = time.monotonic()
        with RawStream(self._url, body, self._key) as stream:
            next(stream.events())
            return time.monotonic() - started_s

    @contextlib.contextmanager
    def flood(self, num_streams: int) -> Iterator[None]:
        """Keep so many streams running."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._run, args=(stop,)) for _ in range(num_streams)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(SETTLE_SECONDS)
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _run(self, stop: threading.Event) -> None:
        workload = _workload(FLOOD_PROMPT)
        while not stop.is_set():
            body = workload.request(FLOOD_OUTPUT)
            with RawStream(self._url, body, self._key) as stream:
                for _ in itertools.takewhile(lambda event: not stop.is_set(), stream.events()):
                    pass
            self.num_done += 1


def _workload(num_tokens: int) -> Workload:
    return Workload(MODEL, prompt_tokens=num_tokens, prompt_ids=True)


def table(alone: dict[int, list[float]], beside: dict[int, list[float]]) -> Iterator[str]:
    """Yield the rows of the table in tests/bench/README.md."""
    for num_tokens, times in alone.items():
        before, after = (1e3 * statistics.median(each) for each in (times, beside[num_tokens]))
        yield f"| {num_tokens} | {before:.0f} | {after:.0f} | {after / before:.2f} |"


def measure(client: Client, lengths: Sequence[int], times: dict[int, list[float]]) -> None:
    """Send one request of each length and note how long its first token took."""
    for num_tokens in lengths:
        time.sleep(random.uniform(0, MAX_PAUSE_SECONDS))
        times[num_tokens].append(client.ttft_s(num_tokens))


def main() -> None:
    """Print a table of TTFT, in ms, by length of prompt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=3, help="requests of a length in a round")
    parser.add_argument("--lengths", default="32,128,512,1024")
    parser.add_argument("flags", nargs="*", help="for the server")
    args = parser.parse_args()
    lengths = [int(length) for length in args.lengths.split(",")]
    alone: dict[int, list[float]] = {length: [] for length in lengths}
    beside: dict[int, list[float]] = {length: [] for length in lengths}
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.toml"
        one, many = new_key(keys, "one"), new_key(keys, "many")
        flags = ["--api-keys", str(keys), "--control-socket", f"{folder}/sock", "--no-access-log"]
        flags += ["--served-model-name", MODEL]
        with Server(*flags, *args.flags) as server:
            client, crowd = Client(server, one), Client(server, many)
            client.ttft_s(256)
            for _ in range(args.rounds):
                for _ in range(args.each):
                    measure(client, lengths, alone)
                with crowd.flood(args.streams):
                    for _ in range(args.each):
                        measure(client, lengths, beside)
                print("\n| prompt tokens | alone | beside the flood | times |\n|---|---|---|---|")
                print("\n".join(table(alone, beside)), flush=True)
    print(f"\nthe flood had {crowd.num_done} answers")


if __name__ == "__main__":
    main()
