"""Where the lead of a group listens, and what a worker must know to be let in. No sockets here."""

import secrets
from typing import Annotated

import msgspec
from msgspec import Meta

# Sixteen are out of reach of guessing; what an operator types may be longer.
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 16, 256

Secret = Annotated[bytes, Meta(min_length=MIN_SECRET_BYTES, max_length=MAX_SECRET_BYTES)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Fingerprint = Annotated[bytes, Meta(max_length=32)]


def new_secret() -> bytes:
    """Make a secret for one incarnation of a group."""
    return secrets.token_bytes(32)


class LeadAddress(msgspec.Struct, frozen=True, array_like=True):
    """Where a group listens.

    secret: what both sides know; it never crosses the network. incarnation: the group's epoch, so
    that a channel meant for one that has died is refused; 0 for any. fingerprint: SHA-256 of the
    certificate, DER, that alone is let pass; empty for a stream that is not encrypted, unless
    ca_file names certificates (PEM) that must have signed that of `host`.
    """

    host: str
    port: Port
    secret: Secret
    incarnation: int = 0
    fingerprint: Fingerprint = b""
    ca_file: str = ""

    @property
    def is_encrypted(self) -> bool:
        return bool(self.fingerprint or self.ca_file)

    def __repr__(self) -> str:
        """Leave the secret out, wherever this may be logged."""
        return f"LeadAddress({self.host}:{self.port}, incarnation={self.incarnation})"
