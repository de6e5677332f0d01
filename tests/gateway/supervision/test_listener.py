"""The listening socket, and what connections inherit from it."""

import socket

import pytest

from gateway.settings import ServerSettings
from gateway.supervision.listener import (
    KEEP_ALIVE,
    CannotListen,
    find_listener,
    find_management_listener,
    listen,
)


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


def test_management_is_this_machines_alone_unless_there_are_keys() -> None:
    assert find_management_listener(ServerSettings(host="0.0.0.0")) is None
    with listen("127.0.0.1", 0, 30.0) as taken:
        port = taken.getsockname()[1]
        for settings in (
            ServerSettings(host="0.0.0.0", allow_anonymous=True, management_port=port),
            ServerSettings(api_keys="keys.toml", management_port=port),
        ):
            with pytest.raises(CannotListen, match=f"127.0.0.1 port {port}.*\n.*management-port"):
                find_management_listener(settings)
    everywhere = ServerSettings(host="0.0.0.0", api_keys="keys.toml", management_port=port)
    listener = find_management_listener(everywhere)
    assert listener is not None
    with listener:
        assert listener.getsockname() == ("0.0.0.0", port)
