"""The way of a message from one process, card or machine to another."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hop:
    """bandwidth: bytes/s, 0: no limit is known. latency_s: of a message of no length, one way."""

    bandwidth: float
    latency_s: float

    def seconds(self, num_bytes: float = 0.0) -> float:
        """Return how long a message takes."""
        return self.latency_s + (num_bytes / self.bandwidth if self.bandwidth else 0.0)
