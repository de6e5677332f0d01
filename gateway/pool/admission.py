"""Whether one more request may wait, and when to come back if not.

Bounds what waits in sequences, in tokens and in time: waiting tokens over the rate at which groups
have been taking them is how long a newcomer would wait. Each bound leaves room that one tenant
alone cannot fill. Knows the queue's counts and the clock. Belongs to ReplicaPool.
"""

import math
from typing import TypeVar

from gateway.pool.fair_queue import FairQueue
from gateway.pool.refusals import QueueFull
from gateway.tenant import Tenant

T = TypeVar("T")

# The groups' speed is that of the last half minute or so in which work waited.
MEMORY_SECONDS = 30.0
# Less than this of waiting says nothing about their speed.
LEAST_SECONDS = 0.5
# 36 bytes each in a list: 150 MB.
MAX_WAITING_TOKENS = 1 << 22


class Admission:
    """Refuses what would wait too long.

    A tenant may hold as much of the queue as it leaves free: half of it alone, less beside others.
    """

    def __init__(self, *, queue_seconds: float, max_waiting: int) -> None:
        """queue_seconds: how long a newcomer may have to wait. max_waiting: sequences."""
        self._queue_seconds = queue_seconds
        self._max_waiting = max_waiting
        self._rate = DispatchRate()

    def check(self, queue: FairQueue[T], tenant: Tenant, now_s: float) -> None:
        """Raise QueueFull if no more of a tenant may wait. What is there already stays."""
        own, own_tokens, _ = queue.of(tenant)
        wait_s = self.wait_s(queue, tenant, now_s)
        if wait_s > self._queue_seconds:
            raise QueueFull(wait_s - self._queue_seconds + 1.0)
        if (
            own >= self._max_waiting - len(queue)
            or own_tokens >= MAX_WAITING_TOKENS - queue.num_tokens
        ):
            raise QueueFull(max(1.0, wait_s / 2))

    def wait_s(self, queue: FairQueue[T], tenant: Tenant, now_s: float) -> float:
        """Return how long a tenant's next sequence is going to wait; 0 while nobody knows."""
        _, own_tokens, share = queue.of(tenant)
        rate = self._rate.tokens_per_s(now_s)
        return min(own_tokens / share, queue.num_tokens) / rate if own_tokens and rate else 0.0

    def backlog_s(self, queue: FairQueue[T], now_s: float) -> float:
        """Return how long all that waits is going to take; 0 while nobody knows."""
        rate = self._rate.tokens_per_s(now_s)
        return queue.num_tokens / rate if rate else 0.0

    def note(self, num_tokens: int, *, is_backlogged: bool, now_s: float) -> None:
        """Tell what was dispatched to groups just now, and whether more is waiting."""
        self._rate.note(num_tokens, is_backlogged=is_backlogged, now_s=now_s)


class DispatchRate:
    """Prompt tokens a second that groups take while work waits; older seconds count for less."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._since_s: float | None = None  # work waits since then, or since the last dispatch

    def note(self, num_tokens: int, *, is_backlogged: bool, now_s: float) -> None:
        """Take a dispatch, or its absence, into account."""
        if self._since_s is not None:
            passed_s = now_s - self._since_s
            decay = math.exp(-passed_s / MEMORY_SECONDS)
            self._tokens = self._tokens * decay + num_tokens
            self._seconds = self._seconds * decay + passed_s
        self._since_s = now_s if is_backlogged else None

    def tokens_per_s(self, now_s: float) -> float:
        """Return the rate; 0 for not known."""
        passed_s = now_s - self._since_s if self._since_s is not None else 0.0
        seconds = self._seconds + passed_s
        return self._tokens / seconds if seconds >= LEAST_SECONDS else 0.0
