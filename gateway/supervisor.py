"""Makes, starts, watches, restarts, drains and kills every process, ring and pipe.

No HTTP, no torch, one thread. It owns the listening socket and spawns from its main thread only.
Groups and workers, what connects them, and what an operator may ask for stand in supervision/;
what happens to them is told as events to those who subscribed here.
"""

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

from backend.config.errors import ModelError
from backend.config.identity import model_identity
from backend.config.model_config import ModelConfig
from backend.ranks.replica import check_group
from backend.wire.control import (
    Reload,
)
from gateway.events import Event, GroupFailed, GroupForgotten, WorkerFailed, WorkerServes
from gateway.layout import GroupPlace, another_place, layout, shape
from gateway.notices.banner import compute_text, ready_lines
from gateway.notices.startup_reporter import StartupReporter
from gateway.sampling_defaults import ModelSampling
from gateway.settings import Settings
from gateway.supervision.channels import ChannelManager
from gateway.supervision.control_messages import Add, Listing
from gateway.supervision.control_socket import ControlSocket, control_path
from gateway.supervision.group_watch import GroupWatch
from gateway.supervision.groups import Group, GroupState
from gateway.supervision.incarnation import Launcher, Starter
from gateway.supervision.joined_incarnation import JoinedLauncher
from gateway.supervision.operations import Operations
from gateway.supervision.recent_lines import RecentLines
from gateway.supervision.shutdown import Shutdown
from gateway.supervision.state_changes import StateChanges
from gateway.supervision.status import group_status, trouble, worker_status
from gateway.supervision.worker_watchdog import WorkerWatchdog
from gateway.supervision.workers import Worker
from gateway.telemetry.publisher import Publisher

logger = logging.getLogger(__name__)


class Supervisor:
    """Owner of every child. All of it runs in one event loop, on the main thread."""

    def __init__(
        self,
        settings: Settings,
        config: ModelConfig,
        sampling: ModelSampling,
        listeners: Sequence[socket.socket],
        reporter: StartupReporter,
        launcher: Launcher,
    ) -> None:
        """A supervisor is made in a running event loop."""
        self._settings = settings
        self._config = config
        self._sampling = sampling
        self._listener = listeners[0]
        self.groups: dict[int, Group] = {}
        self._numbers = itertools.count()
        self._launcher = launcher
        self._joined_launcher = JoinedLauncher(model_identity(config))
        self._layout = layout(settings)
        for place in self._layout:
            self._add_group(place)
        self._workers = [
            Worker(number, settings, listeners, self) for number in range(settings.server.workers)
        ]
        self._epochs = itertools.count(1)
        self._reporter = reporter
        self._has_served = False
        self._signals: list[signal.Signals] = []
        self._changes = StateChanges()
        self._exit_status: int | None = None
        self._channels = ChannelManager(self.groups, self._workers, self.next_epoch)
        publisher = Publisher(settings.server.workers)
        self._watch = GroupWatch(self.groups, launcher, publisher)
        self._subscribers = (publisher, self._channels, reporter)
        operations = Operations(self, self._channels, self._changes)
        recent = RecentLines().install()
        self._control = ControlSocket(operations, self._listing, recent)

    async def run(self) -> int:
        """Start everything, watch it, and stop it in order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        self._has_terminal = os.isatty(sys.stderr.fileno())
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        port = self._listener.getsockname()[1]
        await self._control.open(control_path(self._settings.server, port))
        for group in self.groups.values():
            group.start()
        for worker in self._workers:
            worker.start()
        watchdog = WorkerWatchdog(self._workers, self._reporter)
        watching = asyncio.create_task(self._watch.run())
        shutdown = Shutdown(
            self._workers, self.groups, self._launcher, self._changes, self._reporter
        )
        try:
            await self._changes.until(lambda: self.is_stopping)
            watchdog.stop()
            watching.cancel()
            self._control.close()
            seconds = self._settings.server.drain_seconds if self._exit_status is None else 0.0
            await shutdown.run(seconds, self._signals, has_served=self._has_served)
        finally:
            shutdown.kill()
        return self._exit_status or 0

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._changed()

    def _on_hangup(self) -> None:
        """Have keys and certificates read again, unless it was our terminal that hung up."""
        if self._has_terminal and not os.isatty(sys.stderr.fileno()):
            self._on_signal(signal.SIGHUP)
            return
        for worker in self._workers:
            worker.tell(Reload())
        if pair := self._launcher.renew():
            for group in self.groups.values():
                group.renew(*pair)
        self._reporter.reloads()

    @property
    def is_stopping(self) -> bool:
        return bool(self._signals) or self._exit_status is not None

    @property
    def has_served(self) -> bool:
        return self._has_served

    def next_epoch(self) -> int:
        return next(self._epochs)

    def _changed(self) -> None:
        if self._has_served and not self.is_stopping:
            self._reporter.has_trouble(trouble(self.groups.values()))
        self._changes.tell()

    def fail(self, fault: str) -> None:
        """Give up: everything is stopped and the exit status is 1."""
        if self._exit_status is None:
            self._exit_status = 1
            self._reporter.fails(fault)
            self._changed()

    def tell(self, event: Event) -> None:
        """Pass an event on, and look what it means for the server as a whole."""
        for subscriber in self._subscribers:
            subscriber.take(event)
        match event:
            case GroupFailed(group, reason):
                self._give_up(group, reason)
            case WorkerFailed(_, reason):
                self.fail(reason)
            case WorkerServes():
                self._announce()
        self._changed()

    def _give_up(self, group: int, reason: str) -> None:
        """Go on without a group, if there is another."""
        if not self._has_served:
            self.fail(reason)
            return
        logger.error("group %d died too often and is given up", group)
        if all(each.state is GroupState.GIVEN_UP for each in self.groups.values()):
            self.fail("no group is left")

    # what operations need

    def add_group(self, wanted: Add) -> Group:
        if self._layout[0].address is not None:
            raise ModelError("this gateway has joined groups alone, and starts none")
        if wanted.node and self._settings.server.launcher == "local":
            raise ModelError(f"group on node {wanted.node}: all run here without --launcher ray")
        place = another_place(
            self._layout[0],
            wanted.name,
            wanted.ranks,
            wanted.devices,
            wanted.max_num_seqs,
            wanted.node,
        )
        check_group(self._config, place.engine)
        return self._add_group(place)

    def _add_group(self, place: GroupPlace) -> Group:
        launcher: Starter = self._launcher
        if place.address is not None:
            launcher = self._joined_launcher
        group = Group(next(self._numbers), place, launcher, self._settings.server, self)
        self.groups[group.number] = group
        return group

    def forget_group(self, group: Group) -> None:
        del self.groups[group.number]
        self.tell(GroupForgotten(group.number))

    def _listing(self) -> Listing:
        groups = [group_status(self.groups[number]) for number in sorted(self.groups)]
        workers = [worker_status(worker) for worker in self._workers]
        return Listing(self._url, os.getpid(), groups, workers)

    # the beginning

    def _announce(self) -> None:
        """Say so when everything is there for the first time."""
        if self._has_served or not all(self._serves_enough(worker) for worker in self._workers):
            return
        self._has_served = True
        incarnations = [self.groups[number].incarnation for number in sorted(self.groups)]
        readies = [each.ready for each in incarnations if each is not None and each.ready]
        name = (self._settings.server.served_model_name or (self._config.name,))[0]
        took = self._reporter.took
        compute = compute_text(self._settings, readies[0], shape(self._layout))
        lines = ready_lines(
            self._config, self._settings, readies, self._sampling, compute, self._url, name, took
        )
        kv_tokens = sum(ready.kv_capacity_tokens for ready in readies)
        self._reporter.serves(lines, self._url, name, compute, kv_tokens)

    def _serves_enough(self, worker: Worker) -> bool:
        """Whether a worker serves all groups of ours, and one at least; others' may be away."""
        own = {number for number, group in self.groups.items() if group.place.address is None}
        return worker.is_serving and own <= worker.serves

    @property
    def _url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        scheme = "https" if self._settings.server.tls_cert else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
