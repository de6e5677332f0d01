"""The listening socket. The supervisor holds it, so a backlog outlives the workers."""

import os
import socket

from gateway.notices.service_manager import SocketError, inherited_socket
from gateway.settings import ServerSettings

LISTEN_BACKLOG = 1024
# A peer that acknowledges nothing for so long is gone; one whose window stays shut, too, so never
# less than a slow reader may take.
LEAST_PEER_TIMEOUT_S = 30.0
# Seconds of silence before the first probe, seconds between probes, probes: gone after 60 s.
KEEP_ALIVE = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


class CannotListen(Exception):
    """There is no socket to serve on. The message says why, and what to do."""


def find_listener(server: ServerSettings) -> socket.socket:
    """Return the socket that the service manager passed, or a new one. Raises CannotListen."""
    try:
        inherited = inherited_socket(os.environ)
    except SocketError as error:
        raise CannotListen(str(error)) from error
    peer_timeout_s = max(LEAST_PEER_TIMEOUT_S, server.send_timeout_s)
    if inherited is not None:
        _prepare(inherited, peer_timeout_s)
        return inherited
    try:
        return listen(server.host, server.port, peer_timeout_s)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {server.host} port {server.port}: {error.strerror}\n"
            "choose another with --host or --port"
        ) from error


def find_management_listener(server: ServerSettings) -> socket.socket | None:
    """Return the socket of the management API, if it is wanted. Raises CannotListen.

    Without keys it is this machine's alone, wherever the other listens.
    """
    if not server.management_port:
        return None
    host = server.host if server.api_keys else "127.0.0.1"
    peer_timeout_s = max(LEAST_PEER_TIMEOUT_S, server.send_timeout_s)
    try:
        return listen(host, server.management_port, peer_timeout_s)
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {host} port {server.management_port}: {error.strerror}\n"
            "choose another with --management-port"
        ) from error


def listen(host: str, port: int, peer_timeout_s: float) -> socket.socket:
    """Bind and listen; connections wait here until a worker takes them. Raises OSError."""
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = infos[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _prepare(sock, peer_timeout_s)
        sock.bind(address)
        sock.listen(LISTEN_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _prepare(sock: socket.socket, peer_timeout_s: float) -> None:
    """Set what accepted sockets inherit. A peer that vanished without a word is given up."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1e3 * peer_timeout_s))
        for option, value in KEEP_ALIVE.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
