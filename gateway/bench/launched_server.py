"""A server started for a measurement: `unisono serve` with given settings, and always stopped.

It runs in a session of its own, so every process of it is found in /proc. Waits for its log to say
that it serves; tells why it does not, and what memory its processes take. Knows no loads. Called by
`unisono bench sweep` and `unisono tune`.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from backend.wire.local.lifeline import tie
from gateway.bench.death import ServerDeath, death_from
from gateway.bench.server_log import ServerLog
from gateway.procfs import command_line, cpu_seconds, of_session, pss_bytes, written_bytes

START_SECONDS = 600.0
STOP_SECONDS = 20.0
GONE_SECONDS = 5.0
# What a measurement needs of any server. A group that dies is not started again: figures from
# before and after are not one measurement.
_SETTINGS: Mapping[str, object] = {
    "port": 0,
    "log_format": "json",
    "access_log": False,
    "drain_seconds": 0,
    "restart_limit": 0,
}
# -P and PYTHONPATH: the same code as ours, wherever this was started.
_SERVE = (sys.executable, "-P", "-m", "gateway", "serve")
_FOREIGN_VARIABLES = ("UNISONO_", "TAKEOFF_")
_OWN_TITLE = "unisono: "


class ServerDied(Exception):
    """A server does not serve, or not any more. The message is the whole of its last words."""

    def __init__(self, death: ServerDeath) -> None:
        super().__init__(death.words)
        self.death = death


class LaunchedServer:
    """A context in which a server runs. Its members may be asked from the `with` on.

    url: its root, without /v1. model: the name to ask for. compute: device, kernels, arithmetic and
    layout, as it says them itself. ready_s: from its start until it served. kv_tokens: what the KV
    caches of all groups hold together, 0 where nothing of a text is kept.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        *,
        start_seconds: float = START_SECONDS,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = _SERVE,
    ) -> None:
        """settings: by name, as in the settings file ("tp": 2); those that are not named have
        their defaults, whatever this process's environment says.

        environment: variables beside the inherited ones. command: what takes the flags.
        """
        self.url = ""
        self.model = ""
        self.compute = ""
        self.ready_s = 0.0
        self.kv_tokens = 0
        self.settings = dict(settings)
        self._command = [*command, *flags_of({**_SETTINGS, **settings})]
        self._environment = _clean_environment() | dict(environment or {})
        self._start_seconds = start_seconds
        self._log = ServerLog()
        self._is_spawned = False

    @property
    def command(self) -> list[str]:
        """The command line that a person would type for the same server."""
        return ["unisono", "serve", *flags_of(self.settings)]

    def __enter__(self) -> "LaunchedServer":
        """Start it and wait until it serves. Raises ServerDied; nothing is left of it then."""
        started_s = time.monotonic()
        try:
            # Between a process and its tie nobody would end it.
            with _signals_held():
                self._spawn()
            ready = self._log.wait_for_ready(self._start_seconds)
            if ready is None:
                raise ServerDied(self._death())
        except BaseException:
            if self._is_spawned:
                self.stop()
            raise
        self.ready_s = time.monotonic() - started_s
        self.url, self.model, self.compute = ready["url"], ready["model"], ready["compute"]
        self.kv_tokens = ready.get("kv_tokens", 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pids(self) -> list[int]:
        """All its living processes."""
        return of_session(self._process.pid)

    @property
    def memory_bytes(self) -> int:
        """PSS of all its processes: resident pages, those that several share counted once.

        Pages of the KV cache count from their first use on.
        """
        return sum(map(pss_bytes, self.pids))

    def memory_by_process(self) -> dict[str, int]:
        """Return what each process that has named itself, as in "rank 0.0", has of memory that is
        no file's: libraries are shared out by how many programs use them just then."""
        titles = {pid: command_line(pid) for pid in self.pids}
        ours = {pid: title for pid, title in titles.items() if title.startswith(_OWN_TITLE)}
        return {title.removeprefix(_OWN_TITLE): written_bytes(pid) for pid, title in ours.items()}

    def cpu_seconds(self) -> float:
        """Return the CPU time that its living processes have used."""
        total = 0.0
        for pid in self.pids:
            with contextlib.suppress(OSError):  # it ended just now
                total += cpu_seconds(pid)
        return total

    @property
    def is_whole(self) -> bool:
        """Whether neither it nor one of its groups has died since it was ready."""
        return self._process.poll() is None and not self._log.faults

    def check(self) -> None:
        """Raise ServerDied if it is not whole any more."""
        if self.is_whole:
            return
        if self._process.poll() is not None:
            self._log.wait_for_end(GONE_SECONDS)
        raise ServerDied(self._death())

    def wait_for_fault(self, seconds: float) -> None:
        """Give it so long to say why requests have failed; it need not have died."""
        self._log.wait_for_fault(seconds)

    def stop(self) -> None:
        """End all its processes; the second time nothing happens."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        deadline_s = time.monotonic() + GONE_SECONDS
        while left := self.pids:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline_s:
                break  # the kernel is still taking their memory back
            time.sleep(0.01)
        self._process.wait()
        self._reader.join(GONE_SECONDS)
        self._tie.close()

    def _spawn(self) -> None:
        # The kernel kills the server when this process dies, however that happens.
        death_read, death_write = os.pipe()
        self._tie = open(death_write, "wb")
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._environment,
                start_new_session=True,
                pass_fds=[death_read],
            )
            tie(death_read, self._process.pid)
        finally:
            os.close(death_read)
        assert self._process.stderr is not None
        self._reader = threading.Thread(
            target=self._log.read, args=[self._process.stderr], daemon=True
        )
        self._reader.start()
        self._is_spawned = True

    def _death(self) -> ServerDeath:
        return death_from(self._log.faults, self._log.other_lines, self._process.poll())


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the end; other threads than the main one get none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, frame: came.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for held in came:
        signal.raise_signal(held)


def flags_of(settings: Mapping[str, object]) -> list[str]:
    """Write settings as flags of `unisono serve`; the model stands first, without one."""
    words = [str(settings["model"])] if settings.get("model") else []
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if name == "model":
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, Mapping):
            words += [flag, json.dumps(value)]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [flag, ",".join(map(str, value))]
        else:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def _clean_environment() -> dict[str, str]:
    """Return ours without what a server would take for settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN_VARIABLES) or name == "UNISONO_CACHE"
    }
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    return kept | {"PYTHONPATH": path}
