"""Who a request is from, and what they may do.

A tenant is found by its API key; without keys everybody is ANONYMOUS. Knows neither keys nor HTTP.
"""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta


class KeyScope(enum.StrEnum):
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
    scopes: frozenset[KeyScope] = frozenset({KeyScope.INFER})
    weight: Annotated[float, Meta(ge=0.01, le=100.0)] = 1.0
    max_requests: Annotated[int, Meta(ge=0)] = 0


ANONYMOUS = Tenant(id="", name="anonymous")
