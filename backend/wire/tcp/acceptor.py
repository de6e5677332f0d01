"""Lets workers of other machines in, away from the lead's step loop.

Connections are accepted and heard in threads of their own, a bounded number at a time; the step
loop is handed those that have shown the secret. Refusals are counted and logged, without a secret.
"""

import contextlib
import itertools
import logging
import os
import queue
import select
import socket
import ssl
import threading
from collections import Counter

from backend.wire.tcp.ends import TcpLeadEnd
from backend.wire.tcp.handshake import HANDSHAKE_SECONDS, HandshakeError, Hello, Reason, admit
from backend.wire.tcp.refusals import Refusals
from backend.wire.tcp.sockets import BACKLOG, configure
from backend.wire.tcp.stream import Stream

logger = logging.getLogger(__name__)

# The oldest is dropped for one more, so that who says nothing keeps nobody out for long.
MAX_UNHEARD = 32
# Between two attempts where descriptors have run out.
PAUSE_SECONDS = 0.2


class Acceptor:
    """num_refused: connections that came to nothing, by reason."""

    def __init__(
        self,
        listener: socket.socket,
        secret: bytes,
        incarnation: int,
        encryption: ssl.SSLContext | None = None,
    ) -> None:
        """listener: bound; the acceptor's from now on. incarnation: the group's epoch."""
        self._refusals = Refusals(logger, "connection from")
        self._listener = listener
        self._secret = secret
        self._incarnation = incarnation
        self._encryption = encryption
        self._admitted: queue.SimpleQueue[tuple[Hello, Stream]] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._numbers = itertools.count()
        self._unheard: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._thread = threading.Thread(target=self._accept, name="acceptor", daemon=True)
        self._thread.start()

    @property
    def num_refused(self) -> Counter[str]:
        return self._refusals.counts

    def fileno(self) -> int:
        """Return a descriptor that is readable when take() has something."""
        return self._bell

    def take(self) -> list[tuple[int, TcpLeadEnd]]:
        """Return who has been let in since: Hello.worker_key, and the channel."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        ends = []
        while not self._admitted.empty():
            hello, stream = self._admitted.get()
            ends.append((hello.worker_key, TcpLeadEnd(hello.epoch, stream)))
        return ends

    def close(self) -> None:
        """Let nobody in any more; who has been let in and not taken is dropped."""
        with self._lock:
            self._is_closed = True
            for sock in self._unheard.values():
                _shut(sock)
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._listener.close()
        os.close(self._stop)
        for _, end in self.take():
            end.close()
        os.close(self._bell)

    def _accept(self) -> None:
        # The listener may be others' too, so it is not shut down to end this.
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while not self._is_closed:
            poll.poll()
            try:
                sock, peer = self._listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                logger.error("no connection can be accepted: %s", error)
                select.select([self._stop], [], [], PAUSE_SECONDS)
                continue
            number = next(self._numbers)
            sock.settimeout(HANDSHAKE_SECONDS)
            self._note_unheard(number, sock)
            where = f"{peer[0]}:{peer[1]}"
            threading.Thread(target=self._hear, args=(number, sock, where), daemon=True).start()

    def _note_unheard(self, number: int, sock: socket.socket) -> None:
        with self._lock:
            if number not in self._unheard and len(self._unheard) >= MAX_UNHEARD:
                _shut(self._unheard.pop(next(iter(self._unheard))))
            self._unheard[number] = sock
            if self._is_closed:
                _shut(sock)

    def _hear(self, number: int, sock: socket.socket, peer: str) -> None:
        """Find out who a connection is, and hand it on or end it."""
        admitted: socket.socket | None = sock
        try:
            configure(sock)
            if self._encryption is not None:
                sock = admitted = self._encryption.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
                self._note_unheard(number, sock)
                sock.do_handshake()
            hello = admit(sock, self._secret, self._incarnation)
        except HandshakeError as error:
            self._refuse(error.reason, peer)
        except TimeoutError:
            self._refuse(Reason.SLOW, peer)
        except ssl.SSLError:
            self._refuse(Reason.ENCRYPTION, peer)
        except OSError:
            self._refuse(Reason.STRANGER, peer)
        else:
            self._hand_on(hello, sock)
            admitted = None
        finally:
            with self._lock:
                self._unheard.pop(number, None)
            if admitted is not None:
                admitted.close()

    def _hand_on(self, hello: Hello, sock: socket.socket) -> None:
        with self._lock:
            if self._is_closed:
                sock.close()
                return
            self._admitted.put((hello, Stream(sock)))
            os.eventfd_write(self._bell, 1)

    def _refuse(self, reason: Reason, peer: str) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._refusals.note(reason, peer)


def _shut(sock: socket.socket) -> None:
    """Wake whoever waits for a socket."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
