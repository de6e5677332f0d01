"""Unisono beside other servers: `python -m tests.bench.peers [--rounds 3] [--levels 1,4,16,64]`.

Starts one server at a time, in turn, loads it with the client of `unisono bench`, and prints a
Markdown table of medians. Peers are installed first where they are not. It takes an hour; with
--results it can be done in pieces (--servers, --loads, --rounds), and the table is of all of them.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from gateway.default_model import default_model
from tests.bench.peers.loads import LOADS
from tests.bench.peers.measurement import append, measure, read_all
from tests.bench.peers.servers import SERVERS, PeerServer
from tests.bench.peers.table import render


def main() -> None:
    """Measure what is asked for, then print the table of all there is."""
    args = _arguments()
    results = Path(args.results or tempfile.mkstemp(suffix=".jsonl")[1])
    levels = [int(level) for level in args.levels.split(",")]
    servers = _installed(args.servers.split(",")) if args.rounds else {}
    for _ in range(args.rounds):
        for load in args.loads.split(","):
            for name, server in servers.items():
                if load == "c" and name != "unisono":
                    continue  # it says what sampling costs us
                try:
                    for each in measure(server, load, levels):
                        append(results, each)
                        _say(f"{name}, {load}, {each.streams}: {each.tokens_per_s:.1f} tokens/s")
                except RuntimeError as error:
                    _say(str(error))
    print(render(read_all(results)))


def _installed(names: list[str]) -> dict[str, PeerServer]:
    model = default_model()
    servers = {}
    for name in names:
        _say(f"{name}: preparing")
        try:
            servers[name] = SERVERS[name](model)
        except (OSError, subprocess.SubprocessError, AssertionError) as error:
            _say(f"{name} cannot be had here: {error}")
    return servers


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--levels", default="1,4,16,64", help="streams at once")
    parser.add_argument("--rounds", type=int, default=3, help="0: only print the table")
    parser.add_argument("--results", help="file that measurements are added to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
