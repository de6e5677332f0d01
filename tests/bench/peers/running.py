"""One server's life during a measurement: started, watched from outside, ended with all its parts.

Knows processes and one HTTP path, no loads.
"""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.procfs import cpu_seconds
from tests.bench.peers.servers import PeerServer
from tests.e2e.server import clean_environment, processes_of, tied

READY_SECONDS = 300.0
STOP_SECONDS = 20.0
IDLE_SECONDS = 5.0
KV_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. ready_s: from its start until it said so."""

    url: str
    session: int
    ready_s: float
    kv_bytes: int

    def idle_cpu_percent(self) -> float:
        """Watch all its processes do nothing for some seconds; of one core."""
        pids = list(processes_of(self.session))
        started, before = time.monotonic(), sum(map(cpu_seconds, pids))
        time.sleep(IDLE_SECONDS)
        spent = sum(map(cpu_seconds, pids)) - before
        return 100 * spent / (time.monotonic() - started)

    def pss_bytes(self) -> tuple[int, int]:
        """Return the memory of all its processes, each page shared out among its users: without
        the KV cache, and what of that has been touched."""
        sizes = [pair for pid in processes_of(self.session) for pair in _mappings(pid)]
        # The cache is cut to whole blocks; its mapping may have grown together with others.
        least = KV_SHARE * self.kv_bytes
        kv = min(max((pss for size, pss in sizes if size >= least), default=0), self.kv_bytes)
        return sum(pss for _, pss in sizes) - kv, kv


@contextlib.contextmanager
def run_server(server: PeerServer) -> Iterator[Running]:
    """Start a server and wait until it answers; kill what is left of it afterwards.

    Raises RuntimeError with the end of its output if it ends or takes too long.
    """
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        process = subprocess.Popen(
            tied([part.format(port=port) for part in server.command]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=clean_environment() | server.variables,
            start_new_session=True,
        )
        try:
            while not _is_ready(url):
                if process.poll() is not None or time.monotonic() - started > READY_SECONDS:
                    output.seek(0)
                    words = output.read()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"{server.name} does not serve:\n{words}")
                time.sleep(0.05)
            yield Running(url, process.pid, time.monotonic() - started, server.kv_bytes)
        finally:
            _end(process)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for pid in processes_of(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _mappings(pid: int) -> Iterator[tuple[int, int]]:
    """Yield (size, PSS) in bytes of each mapping of a process."""
    size = 0
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return  # it has ended
    for line in lines:
        if line.startswith("Size:"):
            size = int(line.split()[1]) << 10
        elif line.startswith("Pss:"):
            yield size, int(line.split()[1]) << 10
