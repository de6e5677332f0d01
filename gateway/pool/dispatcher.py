"""Sends waiting sequences to groups: which is next, which groups may have it, which one gets it.

Owns the queue of what is new and knows which connection has what. Knows no death; what one has
left behind waits in resumption.py and goes first. Belongs to ReplicaPool.
"""

from collections import Counter
from collections.abc import Callable

from backend.wire.messages import FinishReason, SeqOutput
from gateway.pool.admission import Admission
from gateway.pool.fair_queue import FairQueue
from gateway.pool.inflight import InflightSequence
from gateway.pool.listener import PoolListener
from gateway.pool.refusals import TOO_LATE
from gateway.pool.replica_connection import ReplicaConnection
from gateway.pool.resumption import Resumption
from gateway.pool.routing import Router


class Dispatcher:
    """A sequence is in one place: `queue`, the resumption or the `sent` of one of `connections`."""

    def __init__(
        self,
        resumption: Resumption,
        admission: Admission,
        vocabulary: Callable[[], list[bytes]],
        listener: PoolListener,
        clock: Callable[[], float],
    ) -> None:
        """admission: is told how fast groups take work. clock: CLOCK_MONOTONIC seconds."""
        self.queue: FairQueue[InflightSequence] = FairQueue()
        self.connections: dict[int, ReplicaConnection] = {}  # by replica
        self._connection_of: dict[int, ReplicaConnection] = {}  # of the sequences sent
        self._num_sent: Counter[str] = Counter()  # by tenant
        self._resumption = resumption
        self._admission = admission
        self._vocabulary = vocabulary
        self._listener = listener
        self._clock = clock
        self._router = Router()

    @property
    def is_empty(self) -> bool:
        """Whether no sequence is left anywhere."""
        return not self.queue and not self._connection_of and not self._resumption

    def connection_of(self, seq_id: int) -> ReplicaConnection | None:
        """Return the connection that a sequence was sent through, if its group still has it."""
        return self._connection_of.get(seq_id)

    def dispatch(self) -> None:
        """Send waiting sequences to the groups that have credit, in order."""
        self._try_suspects()
        num_tokens = 0
        while (selected := self._select()) is not None:
            seq, groups = selected
            if seq.first.deadline and seq.first.deadline <= self._clock():
                self.end(seq, TOO_LATE)
                continue
            conn = self._router.choose(groups, seq.first) if len(groups) > 1 else groups[0]
            had_credit = conn.credit > 0
            if self._assign(seq, conn):
                num_tokens += len(seq.first.prompt_ids)
            elif not had_credit:
                break  # its ring has no room, and no credit that would show it
        is_backlogged = len(self.queue) > 0
        self._admission.note(num_tokens, is_backlogged=is_backlogged, now_s=self._clock())

    def _select(self) -> tuple[InflightSequence, list[ReplicaConnection]] | None:
        """Return what is next, and the groups that may have it; None if nothing can be sent.

        First comes what was cut off, oldest first, then what is new; but one sequence of a tenant
        that has none running, credit or not.
        """
        reserved = self._reserved()
        taking = [
            conn
            for conn in self.connections.values()
            if conn.takes_work and not conn.is_quarantine and conn is not reserved
        ]
        able = [conn for conn in taking if conn.credit > 0]
        if able or self._resumption:
            seq = self._resumption.next_bystander() or self.queue.head()
        else:
            able, seq = taking, self.queue.head(lambda tenant: not self._num_sent[tenant])
        if seq is not None and any(conn.can_hold(seq.first) for conn in taking):
            # It was taken while a smaller group was not there.
            able = [conn for conn in able if conn.can_hold(seq.first)]
        return (seq, able) if seq is not None and able else None

    def _try_suspects(self) -> None:
        """Start the next trials: in a group without work, or in one that has had suspects only."""
        for conn in self.connections.values():
            seq = self._resumption.next_suspect()
            if seq is None:
                conn.is_quarantine = conn.trial is not None
            elif conn.credit > 0 and conn.trial is None and (conn.is_quarantine or not conn.sent):
                if self._assign(seq, conn):
                    conn.is_quarantine, conn.trial = True, seq

    def _reserved(self) -> ReplicaConnection | None:
        """Return the group to be emptied for a suspect that has waited long for one."""
        conns = self.connections.values()
        if not self._resumption.needs_empty_group or any(conn.is_quarantine for conn in conns):
            return None
        ready = [conn for conn in conns if conn.takes_work]
        return min(ready, key=lambda conn: len(conn.sent), default=None)

    def _assign(self, seq: InflightSequence, conn: ReplicaConnection) -> bool:
        """Move a sequence to a group, unless its ring is full; end it if no ring could hold it."""
        try:
            is_sent = conn.send(seq, self._vocabulary)
        except ValueError as error:
            self.end(seq, str(error), is_final=True)
            return False
        if is_sent:
            if not self.queue.take(seq.seq_id):
                self._resumption.discard(seq.seq_id)
            self._connection_of[seq.seq_id] = conn
            self._num_sent[seq.first.tenant] += 1
            seq.receiver.sent(seq.seq_id)
            if seq.lost_s:
                self._listener.on_resume(seq.lost_s)
        return is_sent

    def forget_sent(self, seq: InflightSequence) -> None:
        """A sequence is in no group any more."""
        del self._connection_of[seq.seq_id]
        self._num_sent[seq.first.tenant] -= 1

    def discard(self, seq_id: int) -> None:
        """Take a sequence out of the queues."""
        if not self.queue.drop(seq_id):
            self._resumption.discard(seq_id)

    def end(self, seq: InflightSequence, message: str, *, is_final: bool = False) -> None:
        """Forget a queued sequence and tell its receiver why."""
        self.discard(seq.seq_id)
        error = SeqOutput(seq.seq_id, [], FinishReason.ERROR, error=message, is_final=is_final)
        seq.receiver.receive(error)
