"""What every helper process does, whatever it helps with: `python -m ... DATA_FD DEATH_FD PARENT`.

Ties itself to its worker, has the kernel hold it to limits, and answers one request after the
other. Knows nothing of what is asked. The worker's side is helper.py, which draws the frames.
"""

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from setproctitle import setproctitle

from backend.wire.local.lifeline import ignore_terminal_signals, tie_to_parent


class Unusable(Exception):
    """The greeting cannot be worked with. The message is for the worker."""


def serve(title: str, begin: Callable[[bytes], Callable[[bytes], bytes]]) -> None:
    """Answer requests until the worker closes its end.

    begin: given the greeting, returns what turns a request into its answer; may raise Unusable.
    """
    data_fd, death_fd, parent_pid = map(int, sys.argv[1:4])
    ignore_terminal_signals()
    tie_to_parent(death_fd, parent_pid)
    setproctitle(f"unisono: {title}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Connection(data_fd) as connection:
        try:
            _answer(connection, begin)
        except (EOFError, ConnectionError):
            pass


def limit_memory(num_bytes: int) -> None:
    """Let this process have so many bytes beyond what it has."""
    with open("/proc/self/statm") as file:
        data_bytes = int(file.read().split()[5]) * resource.getpagesize()
    limit = data_bytes + num_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Have the kernel kill this process, by SIGPROF, when the block takes more of a processor."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(connection: Connection, begin: Callable[[bytes], Callable[[bytes], bytes]]) -> None:
    try:
        answer = begin(connection.recv_bytes())
    except Unusable as reason:
        connection.send_bytes(str(reason).encode())
        return
    connection.send_bytes(b"")
    while True:
        connection.send_bytes(answer(connection.recv_bytes()))
