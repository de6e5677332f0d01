"""The sequences whose group has died, until another group, or the same one restarted, takes them.

A death counts only against its suspects: the sequences that were new or changed in the fatal step.
They are tried again one at a time, on a group that this worker gives nothing else meanwhile; when
one has shown to be harmless it runs on there beside the next. A suspect of a second death is given
up. The others go on at once and as often as it takes. Knows no channel. Belongs to ReplicaPool.
"""

import time
from collections.abc import Callable, Iterable

from gateway.pool.inflight import InflightSequence
from gateway.pool.poison import PoisonTable
from gateway.pool.replica_epoch import ReplicaEpoch

# A group that died comes back empty; a suspect waits so long for one before it has one emptied.
EMPTY_GROUP_SECONDS = 10.0
# One from the prompt, one from a step of its own kind.
HARMLESS_TOKENS = 2

# Says which sequences are meant.
Among = Callable[[InflightSequence], bool]


class Resumption:
    """Sequences move: lost -> suspects or bystanders, by judge() -> the group that takes them."""

    def __init__(self, poison: PoisonTable) -> None:
        self.suspects: dict[int, InflightSequence] = {}
        self._poison = poison
        self._lost: dict[ReplicaEpoch, dict[int, InflightSequence]] = {}
        self._bystanders: dict[int, InflightSequence] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues()))

    def has_any(self, among: Among) -> bool:
        """Whether one of certain sequences is here."""
        return any(among(seq) for queue in self._queues() for seq in queue.values())

    def lose(self, replica_epoch: ReplicaEpoch, seqs: dict[int, InflightSequence]) -> None:
        """Keep the sequences of a dead group until its suspects are known."""
        now = time.monotonic()
        for seq in seqs.values():
            seq.lost_s = now
        self._lost[replica_epoch] = seqs

    def judge(self, replica_epoch: ReplicaEpoch, suspects: Iterable[int]) -> list[InflightSequence]:
        """Sort a dead group's sequences; return those that must not be tried again."""
        seqs = self._lost.pop(replica_epoch, {})
        named = set(suspects)
        condemned = []
        for seq_id, seq in seqs.items():
            if seq_id not in named:
                self._bystanders[seq_id] = seq
                continue
            seq.num_suspicions += 1
            if seq.num_suspicions > 1:
                self._poison.add(seq.first)
                condemned.append(seq)
            else:
                self.suspects[seq_id] = seq
        return condemned

    def next_bystander(self, among: Among) -> InflightSequence | None:
        """Return the oldest of certain sequences that may be sent anywhere; discard() it then."""
        return _oldest(self._bystanders, among)

    def next_suspect(self, among: Among) -> InflightSequence | None:
        """Return the oldest of certain sequences to be tried alone; discard() it then."""
        return _oldest(self.suspects, among)

    def needs_empty_group(self, among: Among) -> bool:
        """Whether one of certain suspects has waited long enough to have a group emptied for it."""
        seq = self.next_suspect(among)
        return seq is not None and time.monotonic() - seq.lost_s >= EMPTY_GROUP_SECONDS

    def acquit(self, seq: InflightSequence) -> bool:
        """Whether a sequence on trial has shown to be harmless; it has no past then."""
        if seq.num_tokens_here < HARMLESS_TOKENS:
            return False
        seq.num_suspicions = 0
        return True

    def discard(self, seq_id: int) -> InflightSequence | None:
        """Take a sequence out, wherever it waits."""
        for queue in self._queues():
            if (seq := queue.pop(seq_id, None)) is not None:
                return seq
        return None

    def overdue(self, seconds: float) -> list[InflightSequence]:
        """Return the sequences whose group died so long ago."""
        lost_before = time.monotonic() - seconds
        return [
            seq for queue in self._queues() for seq in queue.values() if seq.lost_s <= lost_before
        ]

    def _queues(self) -> list[dict[int, InflightSequence]]:
        return [self.suspects, self._bystanders, *self._lost.values()]


def _oldest(seqs: dict[int, InflightSequence], among: Among) -> InflightSequence | None:
    if not seqs:
        return None
    oldest = min((seq_id for seq_id, seq in seqs.items() if among(seq)), default=None)
    return None if oldest is None else seqs[oldest]
