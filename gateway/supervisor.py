"""Makes, starts, watches, restarts, drains and kills every process, ring and pipe.

No HTTP, no torch, one thread. It owns the listening socket and spawns from its main thread only.
It connects each life of a worker with each life of a group by a channel made for that pair, and
keeps no copy of it, so that each side sees the other's death.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from setproctitle import setproctitle

from backend.config import ModelConfig
from backend.model_file import load_config
from backend.replica import Replica, check_split, create_channel
from backend.wire.child import Child
from backend.wire.control import (
    Attach,
    ControlClosed,
    Detach,
    Drain,
    Progress,
    Reload,
    Serving,
    Stop,
    ToSupervisor,
)
from backend.wire.messages import Failed, Ready
from gateway.banner import ProgressLine, ready_lines
from gateway.exposure import Unguarded, check_guarded
from gateway.key_file import KeyFileError
from gateway.settings import Settings
from gateway.telemetry import logs
from gateway.telemetry.publisher import Publisher

logger = logging.getLogger(__name__)

LISTEN_BACKLOG = 1024
PEER_TIMEOUT_MS = 30_000
# A child told to stop that has not gone by then is killed.
STOP_SECONDS = 5.0
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
# More deaths than that in the window, and trying again is not going to help.
GROUP_DEATHS, GROUP_WINDOW_S = 3, 600.0
WORKER_DEATHS, WORKER_WINDOW_S = 5, 60.0


def run(settings: Settings) -> int:
    """Serve until a signal; return the exit status.

    Raises ModelError, before anything is spawned, for a model that cannot be served.
    """
    setproctitle("unisono: supervisor")
    logs.configure("supervisor", settings.server.log_level, settings.server.log_format)
    config = load_config(Path(settings.engine.model))
    check_split(config, settings.engine.tp)
    try:
        listener = listen(settings.server.host, settings.server.port)
    except OSError as error:
        where = f"{settings.server.host} port {settings.server.port}"
        print(f"unisono: cannot listen on {where}: {error.strerror}", file=sys.stderr)
        print("unisono: choose another with --host or --port", file=sys.stderr)
        return 1
    with listener:
        try:
            check_guarded(listener, settings.server)
        except (Unguarded, KeyFileError) as error:
            print(textwrap.indent(str(error), "unisono: "), file=sys.stderr)
            return 1
        return asyncio.run(Supervisor(settings, config, listener).run())


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; connections wait here until a worker takes them. Raises OSError."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = infos[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit these. A peer that vanished without a word is given up.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, PEER_TIMEOUT_MS)
        sock.bind(address)
        sock.listen(LISTEN_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


@dataclass(slots=True)
class _Group:
    """One replica group over all its lives. channels: worker -> epoch of the channel to it."""

    number: int
    replica: Replica | None = None
    ready: Ready | None = None
    first_fault: str = ""
    deaths: deque[float] = field(default_factory=deque)
    channels: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Worker:
    """One gateway worker over all its lives. serves: the groups it takes requests for."""

    number: int
    child: Child | None = None
    serves: set[int] = field(default_factory=set)
    deaths: deque[float] = field(default_factory=deque)


class Supervisor:
    """Owner of every child. All of it runs in one event loop, on the main thread."""

    def __init__(self, settings: Settings, config: ModelConfig, listener: socket.socket) -> None:
        self._settings = settings
        self._config = config
        self._listener = listener
        self._groups = [_Group(number) for number in range(settings.engine.dp)]
        self._workers = [_Worker(number) for number in range(settings.server.workers)]
        self._epochs = itertools.count(1)
        self._progress = ProgressLine()
        self._publisher = Publisher(settings.server.workers)
        self._announced = False
        self._signals: list[signal.Signals] = []
        self._wake = asyncio.Event()  # a child died, a signal came, or it is over
        self._exit_status: int | None = None

    async def run(self) -> int:
        """Start everything, watch it, and stop it in order."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._has_terminal = os.isatty(sys.stderr.fileno())
        self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        for group in self._groups:
            self._start_group(group)
        for worker in self._workers:
            self._start_worker(worker)
        while not self._signals and self._exit_status is None:
            await self._wake.wait()
            self._wake.clear()
        await self._shut_down()
        return self._exit_status or 0

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._wake.set()

    def _on_hangup(self) -> None:
        """Have keys and certificates read again, unless it was our terminal that hung up."""
        if self._has_terminal and not os.isatty(sys.stderr.fileno()):
            self._on_signal(signal.SIGHUP)
            return
        for worker in self._workers:
            self._tell(worker.child, Reload())

    @property
    def _is_stopping(self) -> bool:
        return bool(self._signals) or self._exit_status is not None

    # groups

    def _start_group(self, group: _Group) -> None:
        if self._is_stopping:
            return
        replica = Replica(group.number, next(self._epochs), self._settings.engine)
        group.replica, group.ready, group.first_fault = replica, None, ""
        self._publisher.group_born(group.number, replica.ranks)
        for child in replica.ranks:
            self._loop.add_reader(child.line.fileno(), self._on_rank_message, group, child)
            self._loop.add_reader(child.pidfd, self._on_rank_death, group, child)

    def _on_rank_message(self, group: _Group, child: Child) -> None:
        for message in self._messages(child):
            match message:
                case Progress():
                    if not self._announced:
                        self._progress.show(child.title, message)
                case Ready():
                    group.ready = message
                    for worker in self._workers:
                        self._connect(group, worker)
                case Failed():
                    group.first_fault = group.first_fault or message.message

    def _on_rank_death(self, group: _Group, child: Child) -> None:
        """Any exit of a rank ends its whole group."""
        self._on_rank_message(group, child)
        assert group.replica is not None
        replica, group.replica = group.replica, None
        was_ready, group.ready = group.ready is not None, None
        fault = group.first_fault or f"{child.title} {child.exit_text}"
        for rank in replica.ranks:
            self._unwatch(rank)
        replica.kill()
        replica.close()
        self._publisher.group_died(group.number)
        for number, epoch in group.channels.items():
            self._tell(self._workers[number].child, Detach(number, group.number, epoch))
        group.channels.clear()
        self._wake.set()
        if self._is_stopping:
            return
        if not was_ready and not self._announced:
            self._fail(fault)
        elif _is_too_often(group.deaths, GROUP_DEATHS, GROUP_WINDOW_S):
            logger.error("group %d died too often, given up: %s", group.number, fault)
            if not self._live_groups():
                self._fail("no replica group is left")
        else:
            delay = BACKOFF_SECONDS[min(len(group.deaths), len(BACKOFF_SECONDS)) - 1]
            logger.error("group %d died, restart in %g s: %s", group.number, delay, fault)
            self._loop.call_later(delay, self._start_group, group)

    # workers

    def _start_worker(self, worker: _Worker) -> None:
        if self._is_stopping:
            return
        worker.child = Child(
            f"gateway {worker.number}",
            "gateway.worker:worker_main",
            worker.number,
            self._settings,
            self._listener,
        )
        self._publisher.worker_born(worker.number, worker.child)
        self._loop.add_reader(worker.child.line.fileno(), self._on_worker_message, worker)
        self._loop.add_reader(worker.child.pidfd, self._on_worker_death, worker)
        for group in self._groups:
            self._connect(group, worker)

    def _on_worker_message(self, worker: _Worker) -> None:
        assert worker.child is not None
        for message in self._messages(worker.child):
            match message:
                case Serving(replica=replica):
                    worker.serves.add(replica)
                    self._announce()
                case Failed() if not self._announced:
                    self._fail(message.message)

    def _on_worker_death(self, worker: _Worker) -> None:
        self._on_worker_message(worker)
        child, worker.child, worker.serves = worker.child, None, set()
        assert child is not None
        fault = f"{child.title} {child.exit_text}"
        self._unwatch(child)
        child.close()
        self._publisher.worker_died(worker.number)
        for group in self._groups:
            epoch = group.channels.pop(worker.number, None)
            if epoch is not None and group.replica is not None:
                with contextlib.suppress(ControlClosed):
                    group.replica.detach(worker.number, epoch)
        self._wake.set()
        if self._is_stopping:
            return
        if _is_too_often(worker.deaths, WORKER_DEATHS, WORKER_WINDOW_S) or not self._announced:
            self._fail(fault)
        else:
            logger.error("%s; starting another", fault)
            self._start_worker(worker)

    # connections

    def _connect(self, group: _Group, worker: _Worker) -> None:
        """Give one life of each a channel of their own, once both are there."""
        if group.replica is None or group.ready is None or worker.child is None:
            return
        epoch = next(self._epochs)
        channel = create_channel()
        group.channels[worker.number] = epoch
        attach = Attach(worker.number, group.number, epoch)
        with contextlib.suppress(ControlClosed):  # a death that its pidfd is about to tell
            group.replica.attach(worker.number, epoch, channel)
            worker.child.line.send(attach, channel.worker_end)
        channel.close()

    def _messages(self, child: Child) -> list[ToSupervisor]:
        received: list[ToSupervisor] = []
        try:
            while (message := child.line.receive()) is not None:
                received.append(message)
        except ControlClosed:
            self._loop.remove_reader(child.line.fileno())  # its pidfd tells the rest
        return received

    def _tell(self, child: Child | None, message: Detach | Reload | Drain | Stop) -> None:
        if child is not None:
            with contextlib.suppress(ControlClosed):
                child.line.send(message)

    def _unwatch(self, child: Child) -> None:
        self._loop.remove_reader(child.line.fileno())
        self._loop.remove_reader(child.pidfd)

    # the beginning and the end

    def _announce(self) -> None:
        """Say so when everything is there for the first time."""
        first = self._groups[0].ready
        served = all(len(worker.serves) == len(self._groups) for worker in self._workers)
        if self._announced or not served or first is None:
            return
        self._announced = True
        self._progress.end()
        host, port = self._listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        name = (self._settings.server.served_model_name or (self._config.name,))[0]
        lines = ready_lines(self._config, self._settings.engine, first, url, name)
        print("\n".join(lines), file=sys.stderr, flush=True)

    def _fail(self, fault: str) -> None:
        """Give up: everything is stopped and the exit status is 1."""
        if self._exit_status is None:
            self._exit_status = 1
            self._progress.end()
            for line in fault.splitlines():
                print(f"unisono: {line}", file=sys.stderr, flush=True)
            self._wake.set()

    async def _shut_down(self) -> None:
        """Drain the workers, stop the groups, kill what does not go."""
        seconds = self._settings.server.drain_seconds if self._exit_status is None else 0.0
        if self._signals:
            busy = f"; streams may run on for {seconds:g} s" if self._announced else ""
            print(f"unisono: stopping{busy}", file=sys.stderr, flush=True)
        for worker in self._workers:
            self._tell(worker.child, Drain(seconds))
        hurry = self._signals.count(signal.SIGINT) + 1
        await self._until(
            lambda: self._signals.count(signal.SIGINT) >= hurry or not self._live_workers(),
            seconds + STOP_SECONDS,
        )
        for worker in self._workers:
            self._tell(worker.child, Stop())
        for group in self._groups:
            if group.replica is not None and group.ready is not None:
                group.replica.stop()
            elif group.replica is not None:
                group.replica.kill()  # it is loading and would not listen
        await self._until(
            lambda: not self._live_workers() and not self._live_groups(), STOP_SECONDS
        )
        for child in self._live_workers():
            child.kill()
        for replica in self._live_groups():
            replica.kill()
        await self._until(
            lambda: not self._live_workers() and not self._live_groups(), STOP_SECONDS
        )

    def _live_workers(self) -> list[Child]:
        return [worker.child for worker in self._workers if worker.child is not None]

    def _live_groups(self) -> list[Replica]:
        return [group.replica for group in self._groups if group.replica is not None]

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait for a condition that deaths and signals change, or for the time to be up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    await self._wake.wait()
                    self._wake.clear()


def _is_too_often(deaths: deque[float], allowed: int, window_s: float) -> bool:
    """Note a death; tell whether there were more than `allowed` in the window."""
    now = time.monotonic()
    deaths.append(now)
    while deaths[0] < now - window_s:
        deaths.popleft()
    return len(deaths) > allowed
