"""The whole server on the card: gateway, HTTP and streams over the same steps."""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.bench.gpu.packages import environment

PYTHON = (sys.executable, "-m", "tests.bench.gpu.launch")
START_S = 240.0


class ServedResults(msgspec.Struct):
    """tokens_s: of output, by number of streams; report: of `bench serve`, as it writes it."""

    model: str
    report: dict[str, object]


def measure_served(
    model: str, streams: list[int], device: str = "cuda", options: Sequence[str] = ()
) -> ServedResults:
    """Start `unisono serve` and load it with Table 3's requests. Raises RuntimeError."""
    with serving(model, device, max(streams), options) as port:
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory) / "report.json"
            load = [
                *PYTHON, "gateway", "bench", "serve", "--preset", "takeoff",
                "--url", f"http://127.0.0.1:{port}", "--rounds", "1", "--prompt-ids",
                "--concurrency", ",".join(map(str, streams)), "--json", str(report),
            ]  # fmt: skip
            done = subprocess.run(
                load, env=environment(), capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(f"bench serve failed: {done.stderr[-400:]}")
            return ServedResults(model, json.loads(report.read_text()))


@contextmanager
def serving(
    model: str, device: str, max_num_seqs: int, options: Sequence[str] = ()
) -> Iterator[int]:
    """Run a server of a shape, and give its port. Raises RuntimeError."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve = [
        *PYTHON, "gateway", "serve", "--load-format", "dummy", "--device", device,
        "--port", str(port), "--max-num-seqs", str(max_num_seqs), "--max-model-len", "512",
        *options, model,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        with log.open("wb") as words:
            server = subprocess.Popen(serve, stdout=words, stderr=words, env=environment())
        try:
            _wait(server, port, log)
            yield port
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended: {_last_words(log)}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server was not ready in {START_S:g} s: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-600:].strip()
