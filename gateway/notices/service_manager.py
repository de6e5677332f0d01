"""What a server and the service manager that started it tell each other: sd_notify(3), sockets.

Without a manager every call does nothing. Knows no processes. Called by the supervisor alone.
"""

import os
import socket
import time
from collections.abc import MutableMapping

FIRST_FD = 3


class SocketError(Exception):
    """What was passed is not a socket to serve on. The message says what to do."""


class ServiceManager:
    """The notify socket and the watchdog's period, as the environment names them."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take what is meant for this process out of `environ`, so that no child believes it is."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # an abstract one
            self._address = "\0" + self._address[1:]
        self._last_status = ""
        self.watchdog_s = _watchdog_s(environ)

    def ready(self, status: str) -> None:
        """The service is up."""
        self._last_status = status
        self._notify(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """Say in a line how things are; the same words are not said twice in a row."""
        if text != self._last_status:
            self._last_status = text
            self._notify(f"STATUS={text}")

    def extend_start(self, seconds: float, status: str) -> None:
        """Ask for so much more time to start, from now on."""
        self._notify(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}\nSTATUS={status}")

    def reloading(self) -> None:
        """Settings are being read again; ready() says when that is over."""
        self._notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, seconds: float, status: str) -> None:
        """The service is going down, which may take so long."""
        self._notify(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={round(seconds * 1e6)}\nSTATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._notify("WATCHDOG=1")

    def _notify(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto(state.encode(), self._address)
            except OSError:
                pass  # the manager has gone or is busy; serving goes on


def inherited_socket(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Return the listening socket that the service manager passed; None if it passed none.

    The variables are taken out of `environ`. Raises SocketError for anything but one stream socket
    that listens.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) != 1:
        raise SocketError(
            f"{count} sockets were passed, one can be served\nleave one ListenStream= in the unit"
        )
    try:
        sock = socket.socket(fileno=FIRST_FD)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise SocketError(f"descriptor {FIRST_FD} is no socket: {error.strerror}") from error
    if sock.type != socket.SOCK_STREAM or not listens:
        raise SocketError("the socket passed does not listen\nuse ListenStream= and Accept=no")
    sock.set_inheritable(False)
    return sock


def _watchdog_s(environ: MutableMapping[str, str]) -> float:
    """Seconds within which the watchdog wants to be fed; 0 for no watchdog."""
    period, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    is_ours = pid in ("", str(os.getpid()))
    return int(period) / 1e6 if period.isdecimal() and is_ours else 0.0
