"""The sequences whose group has died, until another life of a group takes them.

A death counts only against its suspects: the sequences that were new or changed in the fatal step.
They are tried again one at a time, on a group that this worker gives nothing else meanwhile; when
one has shown to be harmless it runs on there beside the next. A suspect of a second death is given
up. The others go on at once and as often as it takes. Knows no channel. Belongs to ReplicaPool.
"""

import time
from collections.abc import Iterable

from gateway.pool.inflight import Entry
from gateway.pool.poison import PoisonTable

# The supervisor names a death's suspects as soon as it sees the death.
VERDICT_SECONDS = 2.0
# A group that died comes back empty; a suspect waits so long for one before it has one emptied.
EMPTY_GROUP_SECONDS = 10.0
# One from the prompt, one from a step of its own kind.
HARMLESS_TOKENS = 2

Life = tuple[int, int]
"""(replica, epoch) of a channel."""


class Resumption:
    """Entries move: lost -> suspects or bystanders, by judge() -> the group that takes them."""

    def __init__(self, poison: PoisonTable) -> None:
        self.suspects: dict[int, Entry] = {}
        self._poison = poison
        self._lost: dict[Life, dict[int, Entry]] = {}
        self._bystanders: dict[int, Entry] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues()))

    def lose(self, life: Life, entries: dict[int, Entry]) -> None:
        """Keep the sequences of a dead group until its suspects are known."""
        now = time.monotonic()
        for entry in entries.values():
            entry.lost_s = now
        self._lost[life] = entries

    def judge(self, life: Life, suspects: Iterable[int]) -> list[Entry]:
        """Sort a dead group's sequences; return those that must not be tried again."""
        entries = self._lost.pop(life, {})
        named = set(suspects)
        condemned = []
        for seq_id, entry in entries.items():
            if seq_id not in named:
                self._bystanders[seq_id] = entry
                continue
            entry.num_suspicions += 1
            if entry.num_suspicions > 1:
                self._poison.add(entry.first)
                condemned.append(entry)
            else:
                self.suspects[seq_id] = entry
        return condemned

    def next_bystander(self) -> Entry | None:
        """Return the oldest sequence that may be sent anywhere; discard() it then."""
        oldest = min(self._bystanders, default=None)
        return None if oldest is None else self._bystanders[oldest]

    def next_suspect(self) -> Entry | None:
        """Return the oldest sequence to be tried alone; discard() it then."""
        oldest = min(self.suspects, default=None)
        return None if oldest is None else self.suspects[oldest]

    @property
    def needs_empty_group(self) -> bool:
        """Whether a suspect has waited long enough to have a group emptied for it."""
        entry = self.next_suspect()
        return entry is not None and time.monotonic() - entry.lost_s >= EMPTY_GROUP_SECONDS

    def acquit(self, entry: Entry) -> bool:
        """Whether a sequence on trial has shown to be harmless; it has no past then."""
        if entry.num_tokens_here < HARMLESS_TOKENS:
            return False
        entry.num_suspicions = 0
        return True

    def discard(self, seq_id: int) -> Entry | None:
        """Take a sequence out, wherever it waits."""
        for queue in self._queues():
            if (entry := queue.pop(seq_id, None)) is not None:
                return entry
        return None

    def overdue(self, seconds: float) -> list[Entry]:
        """Return the sequences whose group died so long ago."""
        lost_before = time.monotonic() - seconds
        return [
            entry
            for queue in self._queues()
            for entry in queue.values()
            if entry.lost_s <= lost_before
        ]

    def _queues(self) -> list[dict[int, Entry]]:
        return [self.suspects, self._bystanders, *self._lost.values()]
