"""TLS on our own socket: 1.2 or later, HTTP/1.1 only, its files read again when told.

Knows files and ssl, no HTTP. The supervisor checks the files before anything starts; the worker
serves with the context.
"""

import ssl
from pathlib import Path

from hypercorn.config import Config

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
        self.context = self._read()

    def reload(self) -> None:
        """Serve new connections with what the files hold now. Raises TlsError; the old stays."""
        self._read()
        self.context.load_cert_chain(*self._files)

    def _read(self) -> ssl.SSLContext:
        certificate, key = self._files
        if not (certificate and key):
            raise TlsError("TLS needs both: --tls-cert and --tls-key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        for file in self._files:
            _check_readable(file)
        try:
            # Without a password it would ask the terminal for one.
            context.load_cert_chain(certificate, key, password="")
        except OSError as error:
            raise TlsError(
                f"{certificate} and {key} cannot be used for TLS: {_reason(error)}"
            ) from error
        return context


def _check_readable(file: str) -> None:
    """Raise TlsError, naming the one of the two that is the trouble."""
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise TlsError(f"{file} cannot be used for TLS: {unreadable(Path(file), error)}") from error


def _reason(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
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
