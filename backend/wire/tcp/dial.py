"""Connects a worker with the lead of a group on another machine. Waits; run it in a thread."""

import socket

from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.encryption import encrypt
from backend.wire.tcp.handshake import HANDSHAKE_SECONDS, HandshakeError, Hello, Reason, introduce
from backend.wire.tcp.sockets import configure
from backend.wire.tcp.stream import Stream

# How a lead that waits for a handshake of TLS looks to a worker that waits for its preface.
_UNHEARD = {Reason.SLOW, Reason.CLOSED}


class DialError(Exception):
    """No channel could be made. The message says where to and why, and names no secret."""

    def __init__(self, message: str, reason: Reason | None = None) -> None:
        """reason: None where nobody answered, or the connection was lost."""
        super().__init__(message)
        self.reason = reason


def dial(address: LeadAddress, hello: Hello) -> Stream:
    """Return a stream whose other end is the lead that is meant. Raises DialError."""
    where = f"{address.host}:{address.port}"
    try:
        sock = socket.create_connection((address.host, address.port), HANDSHAKE_SECONDS)
    except OSError as error:
        raise DialError(f"{where} cannot be reached: {error}") from error
    try:
        configure(sock)
        if address.is_encrypted:
            sock = encrypt(sock, address)
        introduce(sock, address.secret, hello)
        return Stream(sock)
    except HandshakeError as error:
        sock.close()
        hint = ""
        if error.reason in _UNHEARD and not address.is_encrypted:
            hint = "; if it wants TLS, this side must know its certificate"
        raise DialError(f"{where}: {error}{hint}", error.reason) from error
    except OSError as error:
        sock.close()
        raise DialError(f"{where} ended the connection: {error}") from error
