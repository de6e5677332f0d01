"""The listening socket, and what connections inherit from it."""

import socket

import pytest

from gateway.settings import ServerSettings
from gateway.supervision.listener import KEEP_ALIVE, find_listener


@pytest.mark.parametrize(("send_timeout_s", "milliseconds"), [(1.0, 30_000), (300.0, 300_000)])
def test_connections_give_up_vanished_peers_and_no_slow_reader(
    send_timeout_s: float, milliseconds: int
) -> None:
    """A peer whose window stays shut counts as vanished: whoever read nothing for half a minute was
    cut off, whatever --send-timeout-s said."""
    settings = ServerSettings(port=0, send_timeout_s=send_timeout_s)
    expected = {socket.TCP_USER_TIMEOUT: milliseconds, socket.TCP_NODELAY: 1, **KEEP_ALIVE}
    with find_listener(settings) as listener:
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            found = {o: accepted.getsockopt(socket.IPPROTO_TCP, o) for o in expected}
            assert found == expected
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
