"""The unix socket behind `unisono ctl`: where it lies, and one connection's exchange.

Only its owner may connect. Serving never depends on it: where it cannot be made, a line in the log
says so, and that is all.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gateway.settings import ServerSettings
from gateway.supervision.control_messages import (
    MAX_LINE_BYTES,
    Done,
    DrainGroup,
    List,
    Listing,
    LogLine,
    Logs,
    Operation,
    OperationProgress,
    Refused,
    Remove,
    Reply,
    Restart,
    decode_request,
    encode,
)
from gateway.supervision.operations import OperationError, Operations
from gateway.supervision.recent_lines import RecentLines

logger = logging.getLogger(__name__)

SUFFIX = ".sock"
MAX_UNREAD_BYTES = 4 << 20


def runtime_directory(environ: Mapping[str, str]) -> Path:
    """Where sockets lie unless told otherwise: the user's own directory, gone with the session."""
    if directory := environ.get("RUNTIME_DIRECTORY"):  # systemd's, for this service alone
        return Path(directory.partition(":")[0])
    if directory := environ.get("XDG_RUNTIME_DIR"):
        return Path(directory) / "unisono"
    if os.geteuid() == 0:
        return Path("/run/unisono")
    return Path(tempfile.gettempdir()) / f"unisono-{os.geteuid()}"


def control_path(server: ServerSettings, port: int) -> Path:
    """Where this server's socket lies: where it was told, or named after its port."""
    if server.control_socket:
        return Path(server.control_socket)
    return runtime_directory(os.environ) / f"{port}{SUFFIX}"


def is_alive(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def check_directory(directory: Path) -> None:
    """Raise PermissionError for a directory in which someone else could put a socket of his.

    Root may use a service's own.
    """
    status, own = directory.stat(), os.geteuid()
    is_open = status.st_mode & 0o022 and not status.st_mode & 0o1000
    if is_open or (own != 0 and status.st_uid not in (0, own)):
        raise PermissionError(errno.EPERM, "others may write to the directory")


class ControlSocket:
    """Answers what comes through the socket. Lives in the supervisor's event loop."""

    def __init__(
        self, operations: Operations, listing: Callable[[], Listing], recent: RecentLines
    ) -> None:
        self._operations = operations
        self._listing = listing
        self._recent = recent
        self._path: Path | None = None
        self._server: asyncio.Server | None = None
        self._exchanges: set[asyncio.Task[None]] = set()

    async def open(self, path: Path) -> None:
        """Listen at `path`, if that is possible."""
        try:
            _make_room(path)
            sock = _bind(path)
        except OSError as error:
            logger.warning("no control socket at %s: %s", path, error.strerror or error)
            return
        self._path = path
        self._server = await asyncio.start_unix_server(
            self._answer, sock=sock, limit=MAX_LINE_BYTES
        )

    def close(self) -> None:
        """Stop listening and remove the file."""
        if self._server is not None:
            self._server.close()
        for exchange in self._exchanges:
            exchange.cancel()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._exchanges.add(task)
        try:
            await self._exchange(reader, writer)
        except (ConnectionError, asyncio.CancelledError, ValueError) as error:
            logger.debug("a control connection ended: %r", error)
        finally:
            self._exchanges.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def reply(message: Reply) -> None:
            if writer.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                writer.transport.abort()  # it follows the log, but does not read it
            elif not writer.is_closing():
                writer.write(encode(message) + b"\n")

        def say(text: str) -> None:
            reply(OperationProgress(text))

        try:
            request = decode_request(await reader.readline())
        except msgspec.MsgspecError as error:
            reply(Refused(f"not a request: {error}"))
            return
        match request:
            case List():
                reply(self._listing())
            case Logs(follow=follow):
                for line in self._recent.lines:
                    reply(LogLine(line))
                if follow:
                    await self._follow(reader, reply)
                reply(Done())
            case operation:
                logger.info("asked for: %s", _words(operation))
                try:
                    # Whoever asked may leave; what was begun is brought to its end.
                    done = await self._operations.carry_out(operation, say)
                    logger.info("%s", done.text)
                    reply(done)
                except OperationError as error:
                    logger.warning("%s", error)
                    reply(Refused(str(error)))
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    async def _follow(self, reader: asyncio.StreamReader, reply: Callable[[Reply], None]) -> None:
        """Pass on the log until the other side hangs up."""
        following = asyncio.create_task(self._recent.follow(lambda line: reply(LogLine(line))))
        await reader.read()
        following.cancel()


def _words(operation: Operation) -> str:
    """An operation as it was typed."""
    name = str(type(operation).__struct_config__.tag)
    match operation:
        case Restart(group=None):
            return f"{name} --rolling"
        case DrainGroup(group=group) | Remove(group=group) | Restart(group=group):
            return f"{name} {group}"
        case _:
            return name


def _make_room(path: Path) -> None:
    """Make the directory, and remove the sockets in it whose supervisor was killed."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_directory(path.parent)
    for other in {path, *path.parent.glob(f"*{SUFFIX}")}:
        if other.is_socket() and not is_alive(other):
            other.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock
