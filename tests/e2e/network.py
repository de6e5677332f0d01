"""Machines that are not there: network namespaces of the test's own, with a switch between them.

Each has an address, a loopback and a link to the switch, which can be cut; what runs in one can be
frozen or ended as a whole. Needs root and `ip`; nothing of the real network is touched.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

PREFIX = "unisono-test-"


def why_impossible() -> str:
    """Return why there can be no namespaces here; "" if there can."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "network namespaces need root and iproute2"
    name = f"{PREFIX}{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    _ip("netns", "delete", name)
    return ""


class Machine:
    """One namespace. number: from 1; its address ends in it."""

    def __init__(self, name: str, switch: str, number: int) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self._switch = switch
        self._port = f"port{number}"
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", self._port, "type", "veth", "peer", "name", "eth0",
            "netns", name)  # fmt: skip
        _ip("-n", switch, "link", "set", self._port, "master", "switch", "up")
        _ip("-n", name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        # Whoever looks for its own address by a route to the outside finds one.
        _ip("-n", name, "route", "add", "default", "dev", "eth0")

    @property
    def within(self) -> list[str]:
        """What goes before a command line to run it here; it becomes the command."""
        return ["ip", "netns", "exec", self.name]

    @property
    def pids(self) -> list[int]:
        """Everything that runs here."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def send(self, number: signal.Signals, but: Sequence[int] = ()) -> None:
        """Signal everything that runs here, but for some."""
        for pid in self.pids:
            if pid not in but:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def cut(self) -> None:
        """Take its link down, at the switch: nobody is told."""
        _ip("-n", self._switch, "link", "set", self._port, "down")

    def mend(self) -> None:
        """Take its link up again."""
        _ip("-n", self._switch, "link", "set", self._port, "up")

    def remove(self) -> None:
        """End everything in it, and it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.send(signal.SIGKILL)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", self.name)


@contextlib.contextmanager
def network(num_machines: int) -> Iterator[list[Machine]]:
    """Make so many machines, and remove them with all that runs on them."""
    _remove_left_over()
    base = f"{PREFIX}{os.getpid()}"
    switch = f"{base}-switch"
    machines: list[Machine] = []
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        for number in range(1, num_machines + 1):
            machines.append(Machine(f"{base}-{number}", switch, number))
        yield machines
    finally:
        for machine in machines:
            machine.remove()
        _ip("netns", "delete", switch)


def _remove_left_over() -> None:
    """Remove what a killed run has left."""
    for path in Path("/run/netns").glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{pid}").exists():
            for left in _ip("netns", "pids", path.name).split():
                os.kill(int(left), signal.SIGKILL)
            _ip("netns", "delete", path.name)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
