"""A spawned child, seen from both sides: how it is started, told things, watched and killed.

Knows control lines, pipes and pidfds; not what a child computes. Used by all processes.
"""

import contextlib
import multiprocessing
import os
import signal
import socket
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, Protocol

from setproctitle import setproctitle

from backend.wire.control import ChildLine, SupervisorLine, create_control
from backend.wire.local.collection import collection_paused
from backend.wire.local.lifeline import ignore_terminal_signals, tie, tie_to_parent

STDERR = 2


class ProcessName(Protocol):
    """What others call a process."""

    @property
    def title(self) -> str:
        """In logs."""

    @property
    def pid(self) -> int:
        """On the machine where it runs."""


@dataclass(frozen=True, slots=True)
class ChildContext:
    """What every child is given at spawn. stderr: where it writes instead of the supervisor's."""

    control: socket.socket
    death: Connection
    parent_pid: int
    title: str
    stderr: Connection | None = None

    def begin(self) -> ChildLine:
        """Tie this process to its supervisor and name it. Call first thing in the child."""
        tie_to_parent(self.death.fileno(), self.parent_pid)
        if self.stderr is not None:
            os.dup2(self.stderr.fileno(), STDERR)
        ignore_terminal_signals()
        setproctitle(f"unisono: {self.title}")
        return ChildLine(self.control)


class Child:
    """The supervisor's side of one incarnation of a child.

    Spawn from the main thread only: the parent-death signal follows the thread.
    """

    def __init__(self, title: str, entry: str, *args: Any, keeps_stderr: bool = False) -> None:
        """Start `entry`, a "module:function", in a fresh interpreter, as function(context, *args).

        It is named so that the supervisor need not import what its children do. keeps_stderr: what
        it says there comes out of `stderr`, non-blocking, and nowhere else.
        """
        spawning = multiprocessing.get_context("spawn")
        ours, theirs = create_control()
        death_read, self._death_write = spawning.Pipe(duplex=False)
        self.stderr: Connection | None = None
        stderr_write: Connection | None = None
        if keeps_stderr:
            self.stderr, stderr_write = spawning.Pipe(duplex=False)
            os.set_blocking(self.stderr.fileno(), False)
        context = ChildContext(theirs, death_read, os.getpid(), title, stderr_write)
        self.title = title
        self.line = SupervisorLine(ours)
        self._process = spawning.Process(target=_enter, args=(entry, context, *args), name=title)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        # It takes the child a second to get so far itself, when the cores are busy.
        tie(death_read.fileno(), self.pid)
        theirs.close()
        death_read.close()
        if stderr_write is not None:
            stderr_write.close()
        self.pidfd = os.pidfd_open(self.pid)

    @property
    def exit_code(self) -> int | None:
        """The exit status, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """End it, whatever it is doing."""
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal this very process, never another that got its number."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Reap it and release its descriptors. It must be dead or dying."""
        self._process.join()
        self._process.close()
        self.line.close()
        self._death_write.close()
        if self.stderr is not None:
            self.stderr.close()
        os.close(self.pidfd)


def exit_text(exit_code: int | None) -> str:
    """Say how a process ended. exit_code: minus the signal, if one ended it."""
    if exit_code is None:
        return "still runs"
    if exit_code >= 0:
        return f"exited with status {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def _enter(entry: str, context: ChildContext, *args: Any) -> None:
    module, _, function = entry.partition(":")
    with collection_paused():
        main = getattr(import_module(module), function)
    main(context, *args)
