"""TLS around a stream: by certificate files, or by a pair made for the purpose, whose fingerprint
is handed out with the secret. Knows no frames and no secret.
"""

import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.handshake import HandshakeError, Reason


def lead_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return how a lead encrypts. certificate, key: PEM. Raises ssl.SSLError for what is none.

    Nothing in it is changed later: OpenSSL drops the old key when it takes a certificate, and a
    handshake that another thread begins before the new key would find none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    load_pair(context, certificate.encode(), key.encode())
    return context


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Have a context serve a certificate and its key, PEM. Raises ssl.SSLError for what is none.

    The context has no key any more then.
    """
    with _nameless_file(certificate) as first, _nameless_file(key) as second:
        # Without a password it would ask the terminal for one.
        context.load_cert_chain(first, second, password="")


@contextlib.contextmanager
def _nameless_file(content: bytes) -> Iterator[str]:
    """Yield where OpenSSL, which reads files alone, finds what never reaches a disk."""
    with os.fdopen(os.memfd_create("unisono-tls"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def encrypt(sock: socket.socket, address: LeadAddress) -> ssl.SSLSocket:
    """Encrypt a worker's connection, in the time its socket has.

    Raises HandshakeError if the lead is not the one that is meant, and OSError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if address.ca_file:
        try:
            context.load_verify_locations(address.ca_file)
        except OSError as error:  # an SSLError is an OSError
            raise HandshakeError(Reason.ENCRYPTION, f"{address.ca_file}: {error}") from error
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        encrypted = context.wrap_socket(sock, server_hostname=address.host)
    except ssl.SSLEOFError as error:
        raise HandshakeError(Reason.CLOSED) from error
    except ssl.SSLError as error:
        raise HandshakeError(Reason.ENCRYPTION, _in_words(error)) from error
    certificate = encrypted.getpeercert(binary_form=True) or b""
    if address.fingerprint and hashlib.sha256(certificate).digest() != address.fingerprint:
        encrypted.close()
        raise HandshakeError(Reason.ENCRYPTION, "the certificate has another fingerprint")
    return encrypted


def _in_words(error: ssl.SSLError) -> str:
    """Say why there is no agreement, as far as OpenSSL tells."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if error.reason == "WRONG_VERSION_NUMBER":
        return "the other side does not encrypt"
    return error.reason or str(error)


def fingerprint(certificate: str) -> bytes:
    """Return SHA-256 of a certificate, PEM; of the first, where there are several."""
    first = certificate[certificate.index("-----BEGIN CERTIFICATE-----") :]
    first = first[: first.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest()


def pinned(address: LeadAddress, certificate: str) -> LeadAddress:
    """Return an address where a lead has another certificate, PEM, by now."""
    return msgspec.structs.replace(address, fingerprint=fingerprint(certificate))


def self_signed_pair() -> tuple[str, str]:
    """Make a certificate and its key, PEM, by the openssl command. Raises OSError without it."""
    with tempfile.TemporaryDirectory(prefix="unisono-tls-") as directory:
        files = Path(directory, "certificate"), Path(directory, "key")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        where = ["-out", str(files[0]), "-keyout", str(files[1])]
        command = ["openssl", "req", "-x509", *curve, "-nodes", "-days", "3650", *where]
        try:
            subprocess.run([*command, "-subj", "/CN=unisono"], check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise OSError(f"openssl made no certificate: {error.stderr.decode()}") from error
        return files[0].read_text(), files[1].read_text()
