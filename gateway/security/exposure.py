"""Whether what is about to listen is guarded as its address asks for.

Called by the supervisor before anything is spawned. Knows addresses and settings, no HTTP.
"""

import ipaddress
import socket
from pathlib import Path

from gateway.security.key_file import read_keys
from gateway.settings import ServerSettings

HINT = """\
make a key: unisono keys new --file keys.toml; then serve with --api-keys keys.toml
or serve everybody who can reach it: --allow-anonymous"""


class Unguarded(Exception):
    """The server would let in whoever can reach it. The message says what to do."""


def check_guarded(listener: socket.socket, server: ServerSettings) -> None:
    """Raise Unguarded if other machines could use the server without a key.

    Raises KeyFileError if there is a file of keys that cannot be used.
    """
    if server.api_keys:
        read_keys(Path(server.api_keys), may_be_empty=server.allow_anonymous)
    elif not server.allow_anonymous and listener.family in (socket.AF_INET, socket.AF_INET6):
        address = listener.getsockname()[0]
        if not is_loopback(address):
            raise Unguarded(f"{address} is open to other machines, but there are no keys\n{HINT}")


def is_loopback(address: str) -> bool:
    """Whether an IP address is only this machine's."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
