"""How Hypercorn serves in a worker: on which socket, with which bounds of connections."""

import logging
import resource
import socket
from collections.abc import Sequence

from hypercorn.config import Config

from gateway import connection
from gateway.security.tls import TlsConfig, TlsFiles
from gateway.settings import ServerSettings
from gateway.supervision.listener import LISTEN_BACKLOG

# Channels, pages, libraries, and connections that are being turned away.
SPARE_DESCRIPTORS = 256
# Hypercorn's own; connections still open then are idle or have had their time (see Drain).
GRACEFUL_TIMEOUT_S = 1.0


def connection_bounds(server: ServerSettings) -> connection.Bounds:
    """Return the limits of connections, and get the descriptors that they need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return connection.Bounds(
        max_connections=max(1, min(server.max_connections, most - SPARE_DESCRIPTORS)),
        send_timeout_s=server.send_timeout_s,
    )


def hypercorn_config(listeners: Sequence[socket.socket], tls: TlsFiles | None = None) -> Config:
    """HTTP/1.1 on inherited sockets."""
    config = Config() if tls is None else TlsConfig(tls.context)
    config.bind = [f"fd://{listener.detach()}" for listener in listeners]
    config.backlog = LISTEN_BACKLOG
    config.errorlog = logging.getLogger("hypercorn")  # ours to format
    config.errorlog.setLevel(logging.WARNING)  # it says it runs before it does
    # Load generators and proxies keep connections: hanging up on one between two requests
    # shows as an error there.
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1 << 31
    config.alpn_protocols = ["http/1.1"]
    config.include_server_header = False
    config.graceful_timeout = GRACEFUL_TIMEOUT_S
    config.h11_max_incomplete_size = 1 << 14
    return config
