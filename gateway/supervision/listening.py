"""Where the groups of this server take workers over TCP, and by which secret.

From --group-port and its like, for other gateways; from --group-wire tcp for the server's own.
Knows no process.
"""

import logging
from pathlib import Path

from backend.wire.control import Listen
from backend.wire.tcp.address import LeadAddress, new_secret
from backend.wire.tcp.encryption import fingerprint, lead_context
from backend.wire.tcp.listening import Listening
from backend.wire.tcp.sockets import create_listener
from gateway.layout import read_secret
from gateway.settings import ServerSettings

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_ANY = {"0.0.0.0": LOOPBACK, "::": "::1"}


class ListeningError(ValueError):
    """Groups cannot listen as they were told to. The message names the setting."""


class GroupListening:
    """Makes what each incarnation of a group is given. certificate, key: PEM, or empty."""

    def __init__(self, server: ServerSettings) -> None:
        """Raises ListeningError and ModelError for unusable files."""
        self._host = server.group_host if server.group_port else LOOPBACK
        self._first_port = server.group_port
        self._serves_own = server.group_wire == "tcp"
        self._server = server
        self.certificate, self.key = _certificate(server)
        if server.group_port:
            self._secret = read_secret(server.group_secret)
        else:
            self._secret = new_secret()

    def reread(self) -> tuple[str, str] | None:
        """Read the certificate again; return it and its key, or None without one that is of use.

        One that is of no use is told of, and the last one stays.
        """
        if not self.certificate:
            return None
        try:
            self.certificate, self.key = _certificate(self._server)
        except ListeningError as error:
            logger.error("%s; groups go on with the last certificate", error)
            return None
        return self.certificate, self.key

    def check(self, num_groups: int) -> None:
        """Raise ListeningError if one of the first groups could not listen."""
        for number in range(num_groups if self._first_port else 0):
            try:
                create_listener(self._host, self._first_port + number).close()
            except (OSError, OverflowError) as error:
                where = f"{self._host}:{self._first_port + number}"
                raise ListeningError(
                    f"group {number} cannot listen at {where}: {error}\n"
                    "set another --group-host or --group-port"
                ) from error

    def terms(self, number: int, epoch: int) -> tuple[Listen, int]:
        """What the lead of a group is told, and the port where it listens, 0 for any."""
        message = Listen(self._secret, epoch, self.certificate, self.key)
        return message, self._first_port + number if self._first_port else 0

    def address(self, host: str, port: int, epoch: int) -> LeadAddress:
        """Where workers find a group on another machine."""
        return LeadAddress(host, port, self._secret, epoch, self._fingerprint)

    @property
    def _fingerprint(self) -> bytes:
        return fingerprint(self.certificate) if self.certificate else b""

    def open(self, number: int, epoch: int) -> Listening | None:
        """Return what an incarnation is given; None if nobody comes over TCP."""
        if not (self._first_port or self._serves_own):
            return None
        message, port = self.terms(number, epoch)
        try:
            listener = create_listener(self._host, port)
        except (OSError, OverflowError) as error:
            logger.error("group %d cannot listen for other gateways: %s", number, error)
            return None
        return Listening(listener, message, self._own_address(listener.getsockname()[1], epoch))

    def _own_address(self, port: int, epoch: int) -> LeadAddress | None:
        if not self._serves_own:
            return None
        return self.address(_ANY.get(self._host, self._host), port, epoch)


def _certificate(server: ServerSettings) -> tuple[str, str]:
    """Return certificate and key, PEM, or two empty texts."""
    files = server.group_tls_cert, server.group_tls_key
    if not any(files):
        return "", ""
    if not all(files):
        raise ListeningError("encryption needs both: --group-tls-cert and --group-tls-key")
    try:
        certificate, key = (Path(file).read_text() for file in files)
        lead_context(certificate, key)
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise ListeningError(f"{files[0]} and {files[1]} are of no use for TLS: {error}") from error
    return certificate, key
