"""The supervisor's side of the figures: it makes every page, and tells of processes and restarts.

Knows what the supervisor says of births and deaths. Called by it alone.
"""

import os
import time
from collections.abc import Sequence

import msgspec

from backend.wire.control import ControlClosed, Observe
from backend.wire.local.child import Child
from gateway.telemetry.figures import Process, SupervisorFigures
from gateway.telemetry.page import Page, create_page

_encode = msgspec.msgpack.Encoder().encode


class Publisher:
    """Owns the pages: its own, and one a worker, which outlives each life of that worker."""

    def __init__(self, num_workers: int) -> None:
        self._fds = [create_page() for _ in range(num_workers + 1)]
        self._page = Page(self._fds[0])
        self._started = time.time()
        self._groups: dict[int, list[Process]] = {}
        self._workers: dict[int, Process] = {}
        self._group_births: dict[int, int] = {}
        self._worker_births: dict[int, int] = {}
        self._group_states: dict[int, str] = {}

    def worker_born(self, worker: int, child: Child) -> None:
        """Note a worker's process, and give it the pages."""
        self._workers[worker] = Process(child.title, child.pid)
        self._worker_births[worker] = self._worker_births.get(worker, -1) + 1
        try:
            child.line.send(Observe(worker), tuple(self._fds))
        except ControlClosed:
            pass  # it is dead already, which its pidfd tells
        self._publish()

    def worker_died(self, worker: int) -> None:
        """Note that a worker's process is gone."""
        self._workers.pop(worker, None)
        self._publish()

    def group_born(self, number: int, ranks: Sequence[Child]) -> None:
        """Note the processes of a group's new life."""
        self._groups[number] = [
            Process(child.title, child.pid, str(number), str(rank))
            for rank, child in enumerate(ranks)
        ]
        self._group_births[number] = self._group_births.get(number, -1) + 1
        self._publish()

    def group_died(self, number: int) -> None:
        """Note that the processes of a group are gone."""
        self._groups.pop(number, None)
        self._publish()

    def groups_are(self, states: dict[int, str]) -> None:
        """Note in which state each group is."""
        if states != self._group_states:
            self._group_states = states
            self._publish()

    def group_forgotten(self, number: int) -> None:
        """Note that a group is no part of this server any more."""
        self._groups.pop(number, None)
        self._group_births.pop(number, None)
        self._publish()

    def _publish(self) -> None:
        ranks = [process for number in sorted(self._groups) for process in self._groups[number]]
        workers = [self._workers[number] for number in sorted(self._workers)]
        figures = SupervisorFigures(
            self._started,
            [Process("supervisor", os.getpid()), *workers, *ranks],
            self._group_births,
            self._worker_births,
            self._group_states,
        )
        self._page.write(_encode(figures))
