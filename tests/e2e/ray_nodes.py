"""A Ray cluster of a test's own, one node a machine of network.py, and a server that uses it."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gateway.procfs import command_line
from tests.e2e.network import Machine, network, why_impossible
from tests.e2e.server import Server, clean_environment, tied, wait_until

RAY_PORT = 6379
# Ray wants a third of the memory for objects, of which we have none.
OBJECT_STORE_BYTES = 80_000_000
RAY_START_SECONDS = 180.0
# Parts of the command lines of its processes, the one first that would start others again.
RAY_PROCESSES = ("ray.scripts", "/ray/core/", "/ray/dashboard/", "/ray/_private/", "ray::")
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",  # one process a CPU that nobody needs
    "RAY_prestart_worker_first_driver": "0",
    "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
}


def why_no_ray() -> str:
    """Return why there can be no cluster here; "" if there can."""
    if importlib.util.find_spec("ray") is None:
        return "Ray is not installed: pip install '.[ray]'"
    return why_impossible()


class RayNode:
    """One machine's part of the cluster. The first is the head.

    within: what goes before Ray's command line at the next start, and becomes it.
    """

    def __init__(self, machine: Machine, head: Machine, folder: Path) -> None:
        self.machine = machine
        self._head = head
        self._folder = folder
        self._log = folder / f"{machine.name}.log"
        self.within: list[str] = []
        self._num_cpus = 0
        self._log_start = 0  # of what Ray says since it was last started
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, num_cpus: int) -> None:
        """Have Ray run here. Does not wait for it."""
        self._num_cpus = num_cpus
        role = ["--address", f"{self._head.address}:{RAY_PORT}"]
        if self.machine is self._head:
            role = ["--head", "--port", str(RAY_PORT), "--include-dashboard", "false"]
            role += ["--temp-dir", str(self._folder)]
        command = [
            *self.machine.within, *self.within,
            sys.executable, "-m", "ray.scripts.scripts", "start", *role,
            "--node-ip-address", self.machine.address, "--num-cpus", str(num_cpus),
            "--object-store-memory", str(OBJECT_STORE_BYTES), "--include-log-monitor", "false",
            "--block",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                tied([shutil.which(command[0]) or command[0], *command[1:]]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment() | ENVIRONMENT,
                start_new_session=True,
            )

    @property
    def is_up(self) -> bool:
        """Whether its raylet runs, and is known to the head."""
        has_joined = "Ray runtime started" in self._log.read_text()[self._log_start :]
        return has_joined and bool(self.pids_of("raylet/raylet"))

    def pids_of(self, part: str) -> list[int]:
        """Processes here whose command line has a part."""
        return [pid for pid in self.machine.pids if part in command_line(pid)]

    def kill_raylet(self) -> None:
        """What kill -9 does; Ray's own processes there end with it."""
        for pid in self.pids_of("raylet/raylet"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_ray(self) -> None:
        """End all of Ray here, with what it runs; a server on the same machine stays."""
        for part in RAY_PROCESSES:
            for pid in self.pids_of(part):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until it is up, and do as a service manager does if Ray's start gives up."""

        def is_up() -> bool:
            if self._process is not None and self._process.poll() is not None:
                self.kill_ray()
                self.start(self._num_cpus)
            return self.is_up

        wait_until(is_up, RAY_START_SECONDS, f"Ray is up on {self.machine.name}")

    def start_anew(self) -> None:
        """As a service manager does: end it, start it, and wait until it is up."""
        self.kill_ray()
        self.stop()
        self.start(self._num_cpus)
        self.wait()

    def stop(self) -> None:
        """End what Ray runs here, and wait for it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def ray_cluster(num_nodes: int, num_cpus: int = 2) -> Iterator[list[RayNode]]:
    """Start a cluster; the first node is its head."""
    with contextlib.ExitStack() as stack:
        # Its sockets' paths must be short.
        folder = Path(tempfile.mkdtemp(prefix="ux-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        machines = stack.enter_context(network(num_nodes))
        nodes = [RayNode(machine, machines[0], folder) for machine in machines]
        for node in nodes:
            stack.callback(node.stop)
        start_all(nodes, num_cpus)
        yield nodes


def start_all(nodes: list[RayNode], num_cpus: int) -> None:
    """Start one after another: they share a folder, in which two at once take the same names."""
    nodes[0].start(num_cpus)
    wait_until(lambda: _listens(nodes[0].machine), RAY_START_SECONDS, "Ray's head listens")
    nodes[0].wait()
    for node in nodes[1:]:
        node.start(num_cpus)
        node.wait()


def _listens(machine: Machine) -> bool:
    ports = subprocess.run(
        [*machine.within, "ss", "-Hltn", f"sport = :{RAY_PORT}"], capture_output=True, text=True
    )
    return bool(ports.stdout.strip())


@contextlib.contextmanager
def ray_server(nodes: list[RayNode], *arguments: str | Path) -> Iterator[Server]:
    """Serve on the head's machine, with groups on all; reached over this machine's loopback."""
    head = nodes[0].machine
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(
            *arguments,
            "--launcher",
            "ray",
            "--ray-address",
            f"{head.address}:{RAY_PORT}",
            within=head.within,
            listener=listener,
        )
        with server:
            yield server
