"""TLS on our own socket: 1.2 or later, HTTP/1.1 only, its files read again when told.

Knows files and ssl, no HTTP. The supervisor checks the files before anything starts; the worker
serves with the context.
"""

import ssl
from pathlib import Path

from hypercorn.config import Config

from backend.wire.tcp.encryption import load_pair
from gateway.security.key_file import unreadable

# Longer than any honest network needs.
HANDSHAKE_TIMEOUT_S = 10.0


class TlsError(ValueError):
    """A certificate or its key cannot be used. The message names them and says why."""


class TlsFiles:
    """A certificate chain and its key, and the context that serves them."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raises TlsError."""
        self._files = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(["http/1.1"])
        self.reload()

    def reload(self) -> None:
        """Serve new connections with what the files hold now. Raises TlsError; the old stays.

        Called where handshakes run, in the worker's loop: none begins between certificate and key.
        """
        certificate, key = self._files
        if not (certificate and key):
            raise TlsError("TLS needs both: --tls-cert and --tls-key")
        # Once: whoever writes them may not have done.
        pair = _read(certificate), _read(key)
        try:
            # What fails leaves a context without a key.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
                load_pair(context, *pair)
        except ssl.SSLError as error:
            raise TlsError(
                f"{certificate} and {key} cannot be used for TLS: {_reason(error)}"
            ) from error


def _read(file: str) -> bytes:
    """Raises TlsError, naming the one of the two that is the trouble."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise TlsError(f"{file} cannot be used for TLS: {unreadable(Path(file), error)}") from error


def _reason(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key is not the certificate's"
    return (
        f"{error.strerror}\nis --tls-cert the certificate, --tls-key its key, without a password?"
    )


class TlsConfig(Config):  # type: ignore[misc]  # Hypercorn's types are not read
    """A configuration of Hypercorn that serves a context of ours."""

    ssl_enabled = True
    ssl_handshake_timeout = HANDSHAKE_TIMEOUT_S

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def create_ssl_context(self) -> ssl.SSLContext:
        return self._context
