"""Lets those in who have the secret, away from the loop that is to go on meanwhile: workers of
other machines into a lead, agents of nodes into a supervisor.

Connections are accepted and heard in threads of their own, a bounded number at a time; the loop is
handed those that have shown the secret. Refusals are counted and logged, without a secret.
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
from dataclasses import dataclass

from backend.wire.tcp.encryption import lead_context
from backend.wire.tcp.handshake import HANDSHAKE_SECONDS, HandshakeError, Hello, Reason, admit
from backend.wire.tcp.refusals import Refusals
from backend.wire.tcp.sockets import BACKLOG, configure
from backend.wire.tcp.stream import Stream

logger = logging.getLogger(__name__)

# For one more, the oldest of the host that has most of them is dropped: whoever says nothing, or
# calls without end, keeps nobody else out.
MAX_UNHEARD = 32
# Between two attempts where descriptors have run out.
PAUSE_SECONDS = 0.2


class Acceptor:
    """Owns its listener. For one thread, beside its own."""

    def __init__(
        self,
        listener: socket.socket,
        secret: bytes,
        incarnation: int,
        encryption: ssl.SSLContext | None = None,
        what: str = "connection from",
    ) -> None:
        """listener: bound; the acceptor's from now on. incarnation: the group's epoch. what: who
        calls, for the log."""
        self._refusals = Refusals(logger, what)
        self._listener = listener
        self._secret = secret
        self._incarnation = incarnation
        self._encryption = encryption
        self._admitted: queue.SimpleQueue[tuple[Hello, Stream]] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._numbers = itertools.count()
        self._unheard: dict[int, _Unheard] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._thread = threading.Thread(target=self._accept, name="acceptor", daemon=True)
        self._thread.start()

    @property
    def num_refused(self) -> Counter[str]:
        """Connections that have come to nothing so far, by reason: threads go on counting."""
        with self._lock:
            return self._refusals.counts.copy()

    def renew(self, certificate: str, key: str) -> None:
        """Encrypt what is accepted from now on by another pair, PEM, if anything is encrypted.

        Raises ssl.SSLError for what is none, and goes on with the last one.
        """
        if self._encryption is not None:
            self._encryption = lead_context(certificate, key)

    def fileno(self) -> int:
        """Return a descriptor that is readable when take() has something."""
        return self._bell

    def take(self) -> list[tuple[Hello, Stream]]:
        """Return who has been let in since."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        admitted = []
        while not self._admitted.empty():
            admitted.append(self._admitted.get())
        return admitted

    def close(self) -> None:
        """Let nobody in any more; who has been let in and not taken is dropped."""
        with self._lock:
            self._is_closed = True
            for unheard in self._unheard.values():
                _shut(unheard.sock)
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._listener.close()
        os.close(self._stop)
        for _, stream in self.take():
            stream.close()
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
            self._make_room()
            self._note_unheard(number, sock, peer[0])
            where = f"{peer[0]}:{peer[1]}"
            threading.Thread(target=self._hear, args=(number, sock, where), daemon=True).start()

    def _make_room(self) -> None:
        """Drop a connection for the next one, if there are too many."""
        with self._lock:
            if len(self._unheard) < MAX_UNHEARD:
                return
            [(busiest, _)] = Counter(each.host for each in self._unheard.values()).most_common(1)
            oldest = next(n for n, each in self._unheard.items() if each.host == busiest)
            _shut(self._unheard.pop(oldest).sock)

    def _note_unheard(self, number: int, sock: socket.socket, host: str) -> None:
        with self._lock:
            self._unheard[number] = _Unheard(sock, host)
            if self._is_closed:
                _shut(sock)

    def _note_encrypted(self, number: int, sock: socket.socket) -> None:
        """Shut this one from now on, which has taken the descriptor of the other."""
        with self._lock:
            if number in self._unheard and not self._is_closed:
                self._unheard[number].sock = sock
            else:
                _shut(sock)  # it was dropped meanwhile

    def _hear(self, number: int, sock: socket.socket, peer: str) -> None:
        """Find out who a connection is, and hand it on or end it."""
        admitted: socket.socket | None = sock
        try:
            configure(sock)
            if (encryption := self._encryption) is not None:
                sock = admitted = encryption.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
                self._note_encrypted(number, sock)
                sock.do_handshake()
            hello = admit(sock, self._secret, self._incarnation)
        except HandshakeError as error:
            self._refuse(error.reason, peer)
        except TimeoutError:
            self._refuse(Reason.SLOW, peer)
        except ssl.SSLEOFError:
            self._refuse(Reason.CLOSED, peer)
        except ssl.SSLError:
            self._refuse(Reason.ENCRYPTION, peer)
        except OSError:
            self._refuse(Reason.CLOSED, peer)
        else:
            self._hand_on(number, hello, sock)
            admitted = None
        finally:
            with self._lock:
                self._unheard.pop(number, None)
            if admitted is not None:
                admitted.close()

    def _hand_on(self, number: int, hello: Hello, sock: socket.socket) -> None:
        with self._lock:
            # Whoever takes it may close the acceptor at once, which shuts those unheard.
            self._unheard.pop(number, None)
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


@dataclass(slots=True)
class _Unheard:
    """A connection that has not said who it is."""

    sock: socket.socket
    host: str


def _shut(sock: socket.socket) -> None:
    """Wake whoever waits for a socket."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
