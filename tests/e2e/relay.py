"""A way between two ports of loopback that a test can cut, and ports that are free."""

import contextlib
import os
import random
import socket
import threading
from collections.abc import Callable

# Below those that Linux gives out by itself: net.ipv4.ip_local_port_range begins at 32,768.
FIRST_PORT, PORTS_OF_EACH, NUM_SHARES = 12_000, 2_000, 10


class Relay:
    """Passes connections on to a port, until they are cut. Leaving the context ends it."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._ever: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> "Relay":
        return self

    def __exit__(self, *failure: object) -> None:
        _end(self._listener)
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for sock in (self._listener, *self._ever):
            sock.close()

    def cut(self) -> int:
        """End what is connected; return how many ends that was."""
        ends, self._open = self._open, []
        for end in ends:
            _end(end)
        return len(ends)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                self._open += [near, far]
                self._ever += [near, far]
                for ends in ((near, far), (far, near)):
                    self._start(_pass_on, *ends)

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    _end(source)
    _end(target)


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that nobody uses.

    Nobody is given one of them who asks for any, before a server takes them; nor does another
    worker of these tests find them free meanwhile.
    """
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % NUM_SHARES
    first_port = FIRST_PORT + own * PORTS_OF_EACH
    offset = random.randrange(0, PORTS_OF_EACH // 2)
    for first in range(first_port + offset, first_port + PORTS_OF_EACH - count, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise AssertionError("no ports are free")
