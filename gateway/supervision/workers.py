"""One gateway worker over all its incarnations. A death costs its connections, nothing else."""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from typing import Protocol

from backend.wire.control import ControlClosed, Cut, Pong, Quiet, Serving, ToChild
from backend.wire.local.child import Child, exit_text
from backend.wire.messages import Failed
from gateway.events import (
    Event,
    WorkerCut,
    WorkerFailed,
    WorkerLost,
    WorkerQuiet,
    WorkerServes,
    WorkerStarted,
)
from gateway.settings import Settings
from gateway.supervision.restarts import Restarts

logger = logging.getLogger(__name__)

# A worker loads no model: one that dies so often will not get any better.
DEATH_LIMIT, DEATH_WINDOW_S = 5, 60.0


class WorkerOwner(Protocol):
    """What a worker needs of the supervisor."""

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is to be started any more."""

    @property
    def has_served(self) -> bool:
        """Whether the server has been ready once; before, a failure to start is the end of it."""

    def tell(self, event: Event) -> None:
        """Pass an event on to everyone whom it concerns."""


class Worker:
    """A number, and the processes under it. serves: the groups it takes requests for."""

    def __init__(
        self,
        number: int,
        settings: Settings,
        listeners: Sequence[socket.socket],
        owner: WorkerOwner,
    ) -> None:
        """listeners: where it serves; the second, if there is one, is the management API's."""
        self.number = number
        self.child: Child | None = None
        self.serves: set[int] = set()
        self.num_unanswered = 0  # pings
        self.restarts = Restarts(DEATH_LIMIT, DEATH_WINDOW_S)
        self._settings = settings
        self._listeners = tuple(listeners)
        self._owner = owner
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Start a process on the same listening sockets, whose backlog has waited."""
        if self._owner.is_stopping:
            return
        self.num_unanswered = 0
        self.child = Child(
            f"worker {self.number}",
            "gateway.worker:worker_main",
            self.number,
            self._settings,
            *self._listeners,
        )
        self._loop.add_reader(self.child.line.fileno(), self._on_message)
        self._loop.add_reader(self.child.pidfd, self._on_death)
        self._owner.tell(WorkerStarted(self.number, self.child))

    @property
    def is_serving(self) -> bool:
        """Whether it takes requests for any group."""
        return self.child is not None and bool(self.serves)

    def tell(self, message: ToChild, fds: tuple[int, ...] = ()) -> None:
        """Send it something; a worker that is gone is told by its pidfd."""
        if self.child is not None:
            try:
                self.child.line.send(message, fds)
            except ControlClosed as error:
                logger.debug("%s cannot be told: %s", self.child.title, error)

    def kill(self) -> None:
        """End it now."""
        if self.child is not None:
            self.child.kill()

    def _on_message(self) -> None:
        assert self.child is not None
        try:
            while (message := self.child.line.receive()) is not None:
                match message:
                    case Serving(replica=replica):
                        self.serves.add(replica)
                        self._owner.tell(WorkerServes(self.number))
                    case Pong():
                        self.num_unanswered = 0
                    case Quiet(replica=replica, epoch=epoch):
                        self._owner.tell(WorkerQuiet(self.number, replica, epoch))
                    case Cut(replica=replica, epoch=epoch):
                        self._owner.tell(WorkerCut(self.number, replica, epoch))
                    case Failed() if not self._owner.has_served:
                        self._owner.tell(WorkerFailed(self.number, message.message))
        except ControlClosed:
            self._loop.remove_reader(self.child.line.fileno())  # its pidfd tells the rest

    def _on_death(self) -> None:
        self._on_message()
        child, self.child, self.serves = self.child, None, set()
        assert child is not None
        fault = f"{child.title} {exit_text(child.exit_code)}"
        self._loop.remove_reader(child.line.fileno())
        self._loop.remove_reader(child.pidfd)
        child.close()
        self._owner.tell(WorkerLost(self.number))
        if self._owner.is_stopping:
            pass
        elif self.restarts.note_death(time.monotonic()) and self._owner.has_served:
            logger.error("%s; starting another", fault)
            self.start()
        else:
            self._owner.tell(WorkerFailed(self.number, fault))
