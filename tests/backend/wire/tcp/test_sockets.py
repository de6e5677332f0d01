"""Options of the sockets, and what they promise."""

import socket

from backend.wire.tcp.sockets import (
    ASK_SECONDS,
    IDLE_SECONDS,
    NUM_ASKED,
    SILENCE_SECONDS,
    create_listener,
)
from tests.backend.wire.tcp.pairs import connected

PROMISED_SECONDS = 11


def test_vanished_peer_is_noticed_within_the_promise() -> None:
    accepted, dialled = connected()
    for sock in (accepted, dialled):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 9000
        sock.close()
    assert IDLE_SECONDS + ASK_SECONDS * NUM_ASKED < PROMISED_SECONDS - 1
    assert SILENCE_SECONDS < PROMISED_SECONDS - 1


def test_listener_takes_either_family() -> None:
    for host in ("127.0.0.1", "::1"):
        with create_listener(host) as listener:
            assert listener.getsockname()[0] == host
