"""Sockets of streams between machines: how they listen, and how soon a vanished peer is noticed."""

import socket

# A peer that acknowledges nothing for so long is gone: with the second in which a connection's end
# is passed on, within the 11 s that are promised for anything that vanishes.
SILENCE_SECONDS = 9
# An idle connection asks after so long, then every so often.
IDLE_SECONDS, ASK_SECONDS, NUM_ASKED = 4, 1, 5
BACKLOG = 128


def create_listener(host: str, port: int = 0) -> socket.socket:
    """Take an address, port 0 for any free one. Raises OSError.

    Nobody can connect before the lead that is given the socket begins to listen.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except BaseException:
        listener.close()
        raise
    return listener


def configure(sock: socket.socket) -> None:
    """Send at once what is written, and notice a peer that has vanished without a word.

    A peer that lives but reads nothing is told from one that does: a window that stays shut for
    SILENCE_SECONDS ends a connection as well. By then kernel buffers are full of tokens.
    """
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, NUM_ASKED),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000),
    ):
        sock.setsockopt(level, option, value)
