"""A connected socket, encrypted or not, as both ends of a channel use it: nothing here waits."""

import contextlib
import socket
import ssl
from collections.abc import Sequence

from backend.wire.channel import ChannelBroken, PeerGone

RECEIVE_BYTES = 1 << 16
# One turn reads no more, so that a peer that never stops sending stops nobody.
TURN_BYTES = 4 << 20


class Stream:
    """Owns its socket, which has been made non-blocking."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._is_encrypted = isinstance(sock, ssl.SSLSocket)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def own_host(self) -> str:
        """This side's address, as the other reaches it."""
        return str(self._sock.getsockname()[0])

    def receive(self) -> list[bytes]:
        """Return the pieces that have arrived, in order. Raises ChannelBroken.

        PeerGone only once everything before the end has been read.
        """
        pieces: list[bytes] = []
        num_bytes = 0
        while num_bytes < TURN_BYTES or self._has_more_at_hand:
            try:
                piece = self._sock.recv(RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError) as error:
                return self._end(pieces, PeerGone(f"the other side is gone: {error}"))
            except OSError as error:
                return self._end(pieces, ChannelBroken(f"the connection is lost: {error}"))
            if not piece:
                return self._end(pieces, PeerGone("the other side is gone"))
            pieces.append(piece)
            num_bytes += len(piece)
            if len(piece) < RECEIVE_BYTES and not self._is_encrypted:
                break
        return pieces

    @property
    def _has_more_at_hand(self) -> bool:
        """Whether bytes have been decrypted that no poll would tell of."""
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    @staticmethod
    def _end(pieces: list[bytes], error: ChannelBroken) -> list[bytes]:
        """Give out what came before an end, which the next turn finds again."""
        if pieces:
            return pieces
        raise error

    def send(self, data: memoryview) -> int:
        """Send as much as is taken now; return how many bytes. Raises ChannelBroken."""
        try:
            return self._sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError) as error:
            raise PeerGone(f"the other side is gone: {error}") from error
        except OSError as error:
            raise ChannelBroken(f"the connection is lost: {error}") from error

    def send_parts(self, parts: Sequence[memoryview]) -> int:
        """As send(), of bytes that lie in several places."""
        if isinstance(self._sock, ssl.SSLSocket):
            return self.send(parts[0])
        try:
            return self._sock.sendmsg(parts)
        except BlockingIOError:
            return 0
        except (ConnectionResetError, BrokenPipeError) as error:
            raise PeerGone(f"the other side is gone: {error}") from error
        except OSError as error:
            raise ChannelBroken(f"the connection is lost: {error}") from error

    def receive_parts(self, parts: Sequence[memoryview]) -> int:
        """Have parts filled with what has arrived; return how many bytes. Raises ChannelBroken."""
        try:
            if isinstance(self._sock, ssl.SSLSocket):
                count = self._sock.recv_into(parts[0])
            else:
                count = self._sock.recvmsg_into(parts)[0]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError) as error:
            raise PeerGone(f"the other side is gone: {error}") from error
        except OSError as error:
            raise ChannelBroken(f"the connection is lost: {error}") from error
        if count == 0:
            raise PeerGone("the other side is gone")
        return count

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.close()
