"""The supervisor's side of the figures: it makes every page, and tells of processes and restarts.

Knows events, which the supervisor passes on to it.
"""

import os
import time

import msgspec

from backend.wire.control import ControlClosed, Observe
from gateway.events import (
    Event,
    GroupChanged,
    GroupForgotten,
    GroupLost,
    GroupStarted,
    WorkerLost,
    WorkerStarted,
)
from gateway.telemetry.figures import Process, Refused, SupervisorFigures
from gateway.telemetry.page import Page, create_page

_encode = msgspec.msgpack.Encoder().encode


class Publisher:
    """Owns the pages: its own, and one a worker, which outlives each process of that worker."""

    def __init__(self, num_workers: int) -> None:
        self._fds = [create_page() for _ in range(num_workers + 1)]
        self._page = Page(self._fds[0])
        self._started = time.time()
        self._groups: dict[int, list[Process]] = {}
        self._workers: dict[int, Process] = {}
        self._group_births: dict[int, int] = {}
        self._worker_births: dict[int, int] = {}
        self._group_states: dict[int, str] = {}
        self._group_nodes: dict[int, str] = {}
        self._elsewhere: list[Process] = []
        self._refused: list[Refused] = []

    def take(self, event: Event) -> None:
        """Note what has happened."""
        match event:
            case WorkerStarted(number, child):
                self._workers[number] = Process(child.title, child.pid)
                self._worker_births[number] = self._worker_births.get(number, -1) + 1
                try:
                    child.line.send(Observe(number), tuple(self._fds))
                except ControlClosed:
                    pass  # it is dead already, which its pidfd tells
            case WorkerLost(number):
                self._workers.pop(number, None)
            case GroupStarted(number, ranks):
                self._groups[number] = [
                    Process(child.title, child.pid, str(number), str(rank))
                    for rank, child in enumerate(ranks)
                ]
                self._group_births[number] = self._group_births.get(number, -1) + 1
            case GroupLost(number):
                self._groups.pop(number, None)
            case GroupChanged(number, state, node) if self._is_news(number, state, node):
                self._group_states[number] = state
                self._group_nodes.pop(number, None)
                if node:
                    self._group_nodes[number] = node
            case GroupForgotten(number):
                self._groups.pop(number, None)
                self._group_births.pop(number, None)
                self._group_states.pop(number, None)
                self._group_nodes.pop(number, None)
            case _:
                return
        self._publish()

    def see(self, elsewhere: list[Process], refused: list[Refused]) -> None:
        """Note what has been looked at: ranks on other machines, and refused connections."""
        if (elsewhere, refused) != (self._elsewhere, self._refused):
            self._elsewhere, self._refused = elsewhere, refused
            self._publish()

    def _is_news(self, number: int, state: str, node: str) -> bool:
        known = self._group_states.get(number), self._group_nodes.get(number, "")
        return known != (state, node)

    def _publish(self) -> None:
        ranks = [process for number in sorted(self._groups) for process in self._groups[number]]
        workers = [self._workers[number] for number in sorted(self._workers)]
        figures = SupervisorFigures(
            self._started,
            [Process("supervisor", os.getpid()), *workers, *ranks, *self._elsewhere],
            self._group_births,
            self._worker_births,
            self._group_states,
            self._group_nodes,
            self._refused,
        )
        self._page.write(_encode(figures))
