"""API keys: which tenant a request belongs to, and what that tenant may do.

A key is `sk-<id>-<secret>`. The server knows the id and the SHA-256 of the secret: 256 random bits
need no slow hash. Knows no HTTP and no files.
"""

import enum
import hashlib
import secrets
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

KEY_FORMAT = "sk-<id>-<secret>"
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="SHA-256 of the secret, hex")]


class Scope(enum.StrEnum):
    """What a key opens: the model, or what operators look at."""

    INFER = "infer"
    ADMIN = "admin"


class Tenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks. The id is harmless in logs.

    weight: share of the groups, relative to the others', while several wait.
    max_requests: at the same time, in one worker; 0 for no limit of its own.
    """

    id: Annotated[str, Meta(pattern=r"^[a-z0-9]{4,32}\Z")]
    name: Annotated[str, Meta(max_length=200)] = ""
    scopes: frozenset[Scope] = frozenset({Scope.INFER})
    weight: Annotated[float, Meta(ge=0.01, le=100.0)] = 1.0
    max_requests: Annotated[int, Meta(ge=0)] = 0


class ApiKey(Tenant, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant as the key file has it."""

    sha256: Digest


ANONYMOUS = Tenant(id="", name="anonymous")


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def create_key(
    name: str, scopes: Iterable[Scope], *, weight: float = 1.0, max_requests: int = 0
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
