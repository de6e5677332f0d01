"""The listening socket, and what connections inherit from it."""

import socket

from gateway.supervision.listener import KEEP_ALIVE, PEER_TIMEOUT_MS, listen


def test_accepted_connections_give_up_peers_that_vanish() -> None:
    with listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            options = {
                socket.TCP_USER_TIMEOUT: PEER_TIMEOUT_MS,
                socket.TCP_NODELAY: 1,
                **KEEP_ALIVE,
            }
            found = {o: accepted.getsockopt(socket.IPPROTO_TCP, o) for o in options}
            assert found == options
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
