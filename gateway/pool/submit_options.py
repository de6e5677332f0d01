"""How the pool is to treat the sequences of a request."""

import time
from dataclasses import dataclass

from gateway.tenant import ANONYMOUS, Tenant


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How the sequences of a request are to be treated, whatever is in them.

    group: the name of the groups that may have them; "" for those that answer where none is named.
    deadline: CLOCK_MONOTONIC seconds, 0 for none; timeout_s: what the caller called it.
    """

    tenant: Tenant = ANONYMOUS
    priority: int = 0
    cache_salt: str = ""
    group: str = ""
    deadline: float = 0.0
    timeout_s: float = 0.0

    @property
    def is_expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline > 0 and time.monotonic() >= self.deadline
