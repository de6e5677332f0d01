"""API keys: which tenant a request belongs to, and what that tenant may do.

A key is `sk-<id>-<secret>`. The server knows the id and the SHA-256 of the secret: 256 random bits
need no slow hash. Knows no HTTP and no files.
"""

import hashlib
import secrets
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from gateway.tenant import KeyScope, Tenant

KEY_FORMAT = "sk-<id>-<secret>"
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="SHA-256 of the secret, hex")]


class ApiKey(Tenant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant as the key file has it."""

    sha256: Digest


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def create_key(
    name: str, scopes: Iterable[KeyScope], *, weight: float = 1.0, max_requests: int = 0
) -> tuple[str, ApiKey]:
    """Make a new key: what its owner is given, and what is kept."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    kept = ApiKey(
        id=key_id,
        name=name,
        scopes=frozenset(scopes),
        weight=weight,
        max_requests=max_requests,
        sha256=digest(secret),
    )
    return f"sk-{key_id}-{secret}", kept
