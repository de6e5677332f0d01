"""Unisono beside other servers: `python -m tests.bench.peers [--rounds 3] [--streams 1,4,16,64]`.

Starts one server at a time, in turn, loads it with the client of `unisono bench`, and prints a
Markdown table of medians. Peers are installed first where they are not. It takes an hour; with
--results it can be done in pieces (--servers, --loads, --rounds), and tables are of all of them.
--level holds every server to the instructions of a lesser processor, --model names a GGUF file.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from backend.config.errors import ModelError
from gateway.bench.machine import machine_name
from gateway.default_model import default_model
from tests.bench.peers.llama_cpp import VARIANTS
from tests.bench.peers.loads import LOADS
from tests.bench.peers.measurement import Conditions, append, measure, read_all
from tests.bench.peers.servers import SERVERS, PeerServer
from tests.bench.peers.table import render


def main() -> None:
    """Measure what is asked for, then print the tables of all there is."""
    args = _arguments()
    model = Path(args.model) if args.model else default_model()
    conditions = Conditions(machine_name(), model.stem, args.level)
    results = Path(args.results or tempfile.mkstemp(suffix=".jsonl")[1])
    streams = [int(count) for count in args.streams.split(",")]
    servers = _installed(args.servers.split(","), model, args.level) if args.rounds else {}
    for _ in range(args.rounds):
        for load in args.loads.split(","):
            for name, server in servers.items():
                if load == "c" and name != "unisono":
                    continue  # it says what sampling costs us
                try:
                    for each in measure(server, load, streams, conditions):
                        append(results, each)
                        _say(f"{name}, {load}, {each.streams}: {each.tokens_per_s:.1f} tokens/s")
                except RuntimeError as error:
                    _say(str(error))
    print(render(read_all(results)))


def _installed(names: list[str], model: Path, level: str) -> dict[str, PeerServer]:
    servers = {}
    for name in names:
        _say(f"{name}: preparing")
        try:
            servers[name] = SERVERS[name](model, level)
        except (OSError, subprocess.SubprocessError, AssertionError, ModelError) as error:
            _say(f"{name} cannot be had here: {error}")
    return servers


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", default=",".join(SERVERS))
    parser.add_argument("--loads", default=",".join(LOADS))
    parser.add_argument("--streams", default="1,4,16,64", help="streams at once")
    parser.add_argument("--rounds", type=int, default=3, help="0: only print the tables")
    parser.add_argument("--results", help="file that measurements are added to")
    parser.add_argument("--model", help="a GGUF file; the default model without it")
    parser.add_argument("--level", default="", choices=["", *VARIANTS], help="instructions to use")
    return parser.parse_args()


if __name__ == "__main__":
    main()
