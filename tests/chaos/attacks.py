"""What a chaos run does to the processes of a server. Every attack is logged with its time.

Knows processes by the names they give themselves. Must not know what follows from an attack.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.census import groups_of
from tests.e2e.server import Server

# Shorter than the watchdog's patience: everything must go on as if nothing had been.
SHORT_STOP_SECONDS = 1.0
# More than five deaths of a worker within a minute end the server.
WORKER_KILLS = 4
WORKER_WINDOW_SECONDS = 70.0
# What a stopped lead is left to receive before its ring is harmed.
FILL_SECONDS = 0.5

# What can be done, and how often one is drawn among the others.
WEIGHTS = {
    "kill rank": 5,
    "pause rank": 4,
    "hang rank": 1,
    "kill worker": 1,
    "pause worker": 2,
    "pause supervisor": 1,
    "corrupt rank": 2,
}


@dataclass
class Log:
    """When what was done to whom, in CLOCK_MONOTONIC seconds."""

    began_s: float = field(default_factory=time.monotonic)
    entries: list[tuple[float, str, str]] = field(default_factory=list)
    echo: bool = False

    def add(self, what: str, whom: str) -> None:
        self.entries.append((time.monotonic(), what, whom))
        if self.echo:
            print(f"{time.monotonic() - self.began_s:8.2f} {what} {whom}", flush=True)

    def times(self, what: str, whom: str) -> list[float]:
        """When this was done to processes whose name begins with `whom`."""
        return [t for t, w, name in self.entries if w == what and name.startswith(whom)]


class Attacker:
    """Does one attack at a time, drawn from its generator."""

    weights = WEIGHTS

    def __init__(self, server: Server, rng: random.Random, log: Log) -> None:
        self._server = server
        self._rng = rng
        self._log = log

    async def attack(self, name: str) -> None:
        """Do what `name` says; nothing if its victim has just died."""
        what, kind = name.split()
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            match what:
                case "kill":
                    await self.kill(kind)
                case "pause":
                    await self.pause(kind)
                case "hang":
                    await self.hang(kind)
                case "corrupt":
                    await self.corrupt(kind)

    async def kill(self, kind: str) -> None:
        """End a process at once, but no worker so soon after another that the server gives up."""
        recent = self._log.times("SIGKILL", "worker")[-WORKER_KILLS:]
        if kind == "worker" and len(recent) == WORKER_KILLS:
            if recent[0] > time.monotonic() - WORKER_WINDOW_SECONDS:
                return
        self._send(signal.SIGKILL, *self._victim(kind))

    async def pause(self, kind: str) -> None:
        """Stop a process for less than anybody may take notice of."""
        title, pid = self._victim(kind)
        self._send(signal.SIGSTOP, title, pid)
        await asyncio.sleep(self._rng.uniform(0.05, SHORT_STOP_SECONDS))
        self._send(signal.SIGCONT, title, pid)

    async def hang(self, kind: str) -> None:
        """Stop a rank for good; the watchdog must end its group.

        One that still loads would be given minutes: a disk may be slow.
        """
        ready = {f"{group['group']}." for group in groups_of(self._server) if group["ready"]}
        title, pid = self._victim(kind)
        if any(title.startswith(f"unisono: {kind} {prefix}") for prefix in ready):
            self._send(signal.SIGSTOP, title, pid)

    async def corrupt(self, kind: str) -> None:
        """Flip bits all over the rings of a lead that has something to read."""
        title, pid = self._victim(kind, ".0")
        self._send(signal.SIGSTOP, title, pid)
        await asyncio.sleep(FILL_SECONDS)
        self._log.add("corrupt", title)
        for ring in _rings(pid):
            content = ring.read_bytes()
            noise = bytearray(len(content))
            noise[self._rng.randrange(64) :: 64] = self._rng.randbytes(len(content) // 64)
            with ring.open("r+b") as memory:
                memory.write(_xor(content, noise))
        self._send(signal.SIGCONT, title, pid)

    def _victim(self, kind: str, suffix: str = "") -> tuple[str, int]:
        """Pick one of the living. Raises ProcessLookupError if there is none."""
        living = sorted(
            (title, pid)
            for title, pid in self._server.processes.items()
            if title.startswith(f"unisono: {kind}") and title.endswith(suffix)
        )
        if not living:
            raise ProcessLookupError(kind)
        return self._rng.choice(living)

    def _send(self, number: signal.Signals, title: str, pid: int) -> None:
        self._log.add(number.name, title.removeprefix("unisono: "))
        os.kill(pid, number)


def _rings(pid: int) -> list[Path]:
    """The descriptors of a process that are rings."""
    fds = list(Path(f"/proc/{pid}/fd").iterdir())
    return [fd for fd in fds if os.readlink(fd).startswith("/memfd:unisono-ring")]


def _xor(one: bytes, other: bytearray) -> bytes:
    mixed = int.from_bytes(one) ^ int.from_bytes(other)
    return mixed.to_bytes(len(one))
