"""Where agents call: it lets them in by the secret, and hands each to the incarnation it is of.

Lives in the supervisor's event loop; a handshake waits in a thread.
"""

import asyncio
import logging
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from backend.wire.tcp.handshake import HandshakeError, Hello, Reason, admit
from backend.wire.tcp.refusals import Refusals
from backend.wire.tcp.sockets import configure, create_listener
from gateway.nodes.frame_stream import FrameStream

logger = logging.getLogger(__name__)

# So many may be heard at a time; those beyond are turned away.
MAX_UNHEARD = 16

OnCall = Callable[[FrameStream], None]


class Home:
    """Owns the listening socket. num_refused: calls that came to nothing, by reason."""

    def __init__(self, host: str, port: int = 0) -> None:
        """Raises OSError if it cannot listen there."""
        self.secret = secrets.token_bytes(32)
        self._refusals = Refusals(logger, "agent at")
        self._host = host
        self._listener = create_listener(host, port)
        self._listener.listen(MAX_UNHEARD)
        self._expected: dict[tuple[int, int], OnCall] = {}
        self._unheard: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener.fileno(), self._accept)

    @property
    def num_refused(self) -> Counter[str]:
        return self._refusals.counts

    @property
    def address(self) -> tuple[str, int]:
        return self._host, int(self._listener.getsockname()[1])

    def expect(self, number: int, epoch: int, on_call: OnCall) -> None:
        """Have the agent of one incarnation handed over when it calls."""
        self._expected[number, epoch] = on_call

    def forget(self, number: int, epoch: int) -> None:
        """Refuse that agent from now on."""
        self._expected.pop((number, epoch), None)

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for task in self._unheard:
            task.cancel()

    def _accept(self) -> None:
        try:
            sock, peer = self._listener.accept()
        except OSError:
            return  # it has hung up already
        if len(self._unheard) >= MAX_UNHEARD:
            sock.close()
            return
        task = self._loop.create_task(self._hear(sock, f"{peer[0]}:{peer[1]}"))
        self._unheard.add(task)
        task.add_done_callback(self._unheard.discard)

    async def _hear(self, sock: socket.socket, peer: str) -> None:
        try:
            configure(sock)
            hello = await self._loop.run_in_executor(None, admit, sock, self.secret, 0)
            await self._hand_over(hello, sock, peer)
        except HandshakeError as error:
            self._refusals.note(error.reason, peer)
            sock.close()
        except (OSError, ssl.SSLError):
            self._refusals.note(Reason.STRANGER, peer)
            sock.close()

    async def _hand_over(self, hello: Hello, sock: socket.socket, peer: str) -> None:
        on_call = self._expected.pop((hello.worker, hello.epoch), None)
        if on_call is None:
            self._refusals.note(Reason.INCARNATION, peer)
            sock.close()
            return
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock)
        on_call(FrameStream(reader, writer))
