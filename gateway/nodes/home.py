"""Where agents call: it lets them in by the secret, and hands each to the incarnation it is of.

Lives in the supervisor's event loop; handshakes wait in threads of the acceptor's.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable

from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.encryption import lead_context
from backend.wire.tcp.handshake import Hello, Reason
from backend.wire.tcp.refusals import Refusals
from backend.wire.tcp.sockets import create_listener
from backend.wire.tcp.stream import Stream
from gateway.nodes.frame_stream import FrameStream

logger = logging.getLogger(__name__)

OnCall = Callable[[FrameStream], None]


class Home:
    """Owns the listening socket."""

    def __init__(self, host: str, port: int = 0, certificate: str = "", key: str = "") -> None:
        """certificate, key: PEM, for streams that are encrypted. Raises OSError if it cannot listen
        there."""
        self.secret = secrets.token_bytes(32)
        self._unexpected = Refusals(logger, "agent at")
        listener = create_listener(host, port)
        self.address = host, int(listener.getsockname()[1])
        encryption = lead_context(certificate, key) if certificate else None
        self._acceptor = Acceptor(listener, self.secret, 0, encryption, "agent at")
        self._expected: dict[tuple[int, int, int], OnCall] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._acceptor.fileno(), self._take)

    @property
    def num_refused(self) -> Counter[str]:
        """Calls that came to nothing, by reason."""
        return self._acceptor.num_refused + self._unexpected.counts

    def expect(self, number: int, epoch: int, on_call: OnCall, part: int = 0) -> None:
        """Have the agent of one incarnation, or of a part of it, handed over when it calls."""
        self._expected[number, epoch, part] = on_call

    def forget(self, number: int, epoch: int, part: int = 0) -> None:
        """Refuse that agent from now on."""
        self._expected.pop((number, epoch, part), None)

    def renew(self, certificate: str, key: str) -> None:
        """Meet agents that call from now on with another pair, PEM, if streams are encrypted."""
        self._acceptor.renew(certificate, key)

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._acceptor.fileno())
        self._acceptor.close()

    def _take(self) -> None:
        for hello, stream in self._acceptor.take():
            self._hand_over(hello, stream)

    def _hand_over(self, hello: Hello, stream: Stream) -> None:
        on_call = self._expected.pop((hello.worker, hello.epoch, hello.gateway), None)
        if on_call is None:
            self._unexpected.note(Reason.INCARNATION, f"of group {hello.worker}")
            stream.close()
        else:
            on_call(FrameStream(stream))
