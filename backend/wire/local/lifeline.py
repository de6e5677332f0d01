"""Ties a child's life to its supervisor's, so that nothing outlives a killed supervisor.

There are two independent ties. One is the death pipe: the supervisor alone holds the write end and
never writes; when it dies, however it dies, the kernel sends the child SIGKILL because its read end
has become readable. It works while the child is stopped or stuck in native code, and whichever
thread spawned it. The other is the parent-death signal, which needs the spawning thread to live on.
"""

import ctypes
import fcntl
import os
import signal

PR_SET_PDEATHSIG = 1


def tie_to_parent(death_fd: int, parent_pid: int) -> None:
    """Have the kernel kill this process when the parent dies. Call first thing in a child.

    death_fd: read end of the death pipe; must stay open. Exits if the parent is gone already.
    """
    tie(death_fd, os.getpid())
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)  # it died before the ties were made


def tie(death_fd: int, pid: int) -> None:
    """Have the kernel kill process `pid` when `death_fd`, the end of a pipe, becomes readable.

    This belongs to the open file and not to the descriptor: a parent can tie a child that has
    inherited it before the child has run a line of its own.
    """
    fcntl.fcntl(death_fd, fcntl.F_SETOWN, pid)
    fcntl.fcntl(death_fd, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(death_fd, fcntl.F_GETFL)
    fcntl.fcntl(death_fd, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)


def ignore_terminal_signals() -> None:
    """Leave what may reach the whole process group to the supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
