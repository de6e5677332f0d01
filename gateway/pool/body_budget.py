"""How many bytes of request bodies a worker has in memory together, and whose they are.

A body counts from its first piece until its request has been answered: what was decoded from it
lives so long. A tenant may hold as much as it leaves free, half of it alone. Knows no HTTP but the
refusal. Held by the service; bodies are read in requests/body.py.
"""

from collections import Counter

from gateway.errors import ApiError

RETRY_AFTER_S = 2.0


class BodyBudget:
    """The budget of one worker. max_bytes: of all bodies; one that is alone may exceed it."""

    def __init__(self, max_bytes: int = 1 << 28) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.held: Counter[str] = Counter()  # by tenant

    def count(self, tenant: str, num_bytes: int) -> None:
        """Bytes have come, or gone if there are less than 0."""
        self.num_bytes += num_bytes
        self.held[tenant] += num_bytes
        if not self.held[tenant]:
            del self.held[tenant]


class BodyReservation:
    """The share of one body in the budget, empty at first."""

    def __init__(self, budget: BodyBudget, tenant: str) -> None:
        self._budget = budget
        self._tenant = tenant
        self._num_bytes = 0

    def check(self, num_bytes: int) -> None:
        """Raise ApiError 503 if so many bytes more are beyond the budget."""
        budget = self._budget
        is_alone = budget.num_bytes == self._num_bytes
        num_free = budget.max_bytes - budget.num_bytes
        if not is_alone and budget.held[self._tenant] + num_bytes > num_free:
            message = "The server holds too many large requests. Try again in a moment."
            raise ApiError(503, message, code="bodies_full", retry_after_s=RETRY_AFTER_S)

    def grow(self, num_bytes: int) -> None:
        """Take the next piece. Raises ApiError 503, with nothing taken, if there is no budget."""
        self.check(num_bytes)
        self._budget.count(self._tenant, num_bytes)
        self._num_bytes += num_bytes

    def release(self) -> None:
        """Its request is over. Idempotent."""
        self._budget.count(self._tenant, -self._num_bytes)
        self._num_bytes = 0
