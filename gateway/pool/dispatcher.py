"""Sends waiting sequences to groups: which is next, which groups may have it, which one gets it.

Owns the queues of what is new, one for each name of groups, and knows which connection has what.
Knows no death; what one has left behind waits in resumption.py and goes first. Belongs to
ReplicaPool.
"""

from collections.abc import Callable, Sequence

from backend.wire.messages import FinishReason, SeqOutput
from gateway.group_names import GroupNames
from gateway.pool.admission import Admission
from gateway.pool.inflight import InflightSequence
from gateway.pool.lane import Lane
from gateway.pool.lane_groups import NO_GROUPS, LaneGroups
from gateway.pool.listener import PoolListener
from gateway.pool.refusals import TOO_LATE
from gateway.pool.replica_connection import ReplicaConnection, num_tokens_at_most
from gateway.pool.replica_epoch import ReplicaEpoch
from gateway.pool.resumption import Resumption
from gateway.pool.routing import Router


class Dispatcher:
    """A sequence is in one place: the queue of a lane, the resumption or the `sent` of one of
    `connections`."""

    def __init__(
        self,
        names: GroupNames,
        resumption: Resumption,
        new_admission: Callable[[], Admission],
        vocabulary: Callable[[], list[bytes]],
        listener: PoolListener,
        clock: Callable[[], float],
    ) -> None:
        """names: of the groups, which may change. new_admission: makes a lane's, which is told
        how fast groups take work. clock: CLOCK_MONOTONIC seconds."""
        self.connections: dict[int, ReplicaConnection] = {}  # by replica; see connect()
        self._names = names
        self._groups: dict[str, LaneGroups] = {}  # by name
        self._quarantined: set[ReplicaConnection] = set()
        self._lanes: dict[str, Lane] = {}  # by name; one without groups lasts till it is empty
        self._connection_of: dict[int, ReplicaConnection] = {}  # of the sequences sent
        self._resumption = resumption
        self._new_admission = new_admission
        self._vocabulary = vocabulary
        self._listener = listener
        self._clock = clock
        self._router = Router()

    @property
    def is_empty(self) -> bool:
        """Whether no sequence is left anywhere."""
        return not self.num_queued and not self._connection_of and not self._resumption

    @property
    def num_queued(self) -> int:
        """New sequences that wait."""
        return sum(len(lane.queue) for lane in self._lanes.values())

    @property
    def queue_seconds(self) -> float:
        """How long the last in the longest lane is going to wait; 0 while nobody knows."""
        now_s = self._clock()
        waits = (lane.admission.backlog_s(lane.queue, now_s) for lane in self._lanes.values())
        return max(waits, default=0.0)

    def queued(self) -> list[InflightSequence]:
        """Return the new sequences that wait, in no order."""
        return [seq for lane in self._lanes.values() for seq in lane.queue.items()]

    def lanes(self) -> list[Lane]:
        """Return the lanes that there have been."""
        return list(self._lanes.values())

    def lane(self, name: str) -> Lane:
        """Return the lane of a name, as GroupNames.resolve() gives it or once gave it."""
        if (lane := self._lanes.get(name)) is None:
            lane = self._lanes[name] = Lane(name, self._new_admission())
        return lane

    def groups_of(self, name: str) -> LaneGroups:
        """Return the groups that answer for a name."""
        return self._groups.get(self._names.resolve(name), NO_GROUPS)

    def connect(self, conn: ReplicaConnection) -> None:
        """A group has a new channel; one that it had is lost before."""
        self.connections[conn.replica] = conn
        self.note(conn)

    def disconnect(self, conn: ReplicaConnection) -> None:
        """A channel is lost."""
        del self.connections[conn.replica]
        self._quarantined.discard(conn)
        for groups in self._groups.values():
            groups.drop(conn)

    def note(self, conn: ReplicaConnection) -> None:
        """What a group would take has changed."""
        name = self._names.of(conn.replica)
        if (groups := self._groups.get(name)) is None:
            groups = self._groups[name] = LaneGroups()
        groups.note(conn)

    def note_names(self) -> None:
        """Groups may be called otherwise now."""
        self._groups.clear()
        for conn in self.connections.values():
            self.note(conn)

    def connection_of(self, seq_id: int) -> ReplicaConnection | None:
        """Return the connection that a sequence was sent through, if its group still has it."""
        return self._connection_of.get(seq_id)

    def dispatch(self) -> None:
        """Send waiting sequences to the groups that have credit, in order."""
        self._try_suspects()
        for lane in [*self._lanes.values()]:
            self._dispatch(lane)

    def _dispatch(self, lane: Lane) -> None:
        num_tokens = 0
        if lane.queue or self._resumption:
            groups = self.groups_of(lane.name)
            while (selected := self._select(lane, groups)) is not None:
                seq, able = selected
                if seq.first.deadline and seq.first.deadline <= self._clock():
                    self.end(seq, TOO_LATE)
                    continue
                conn = self._choose(able, seq)
                had_credit = conn.credit > 0
                if self._assign(seq, conn):
                    num_tokens += len(seq.first.prompt_ids)
                elif not had_credit:
                    break  # its channel has no room, and no credit that would show it
        is_backlogged = len(lane.queue) > 0
        lane.admission.note(num_tokens, is_backlogged=is_backlogged, now_s=self._clock())

    def _choose(
        self, able: Sequence[ReplicaConnection], seq: InflightSequence
    ) -> ReplicaConnection:
        """Return the best of some groups, of which there is one at least."""
        if len(able) == 1:
            return able[0]
        return self._router.choose(able, seq.first, lambda owner: self._able_owner(owner, seq))

    def _able_owner(self, owner: ReplicaEpoch, seq: InflightSequence) -> ReplicaConnection | None:
        """Return the connection to an epoch of a group if a sequence may be sent there."""
        conn = self.connections.get(owner.replica)
        if conn is None or conn.epoch != owner.epoch or conn not in self.groups_of(seq.group).able:
            return None
        return conn if conn.can_hold(seq.first) else None

    def _select(
        self, lane: Lane, groups: LaneGroups
    ) -> tuple[InflightSequence, Sequence[ReplicaConnection]] | None:
        """Return what is next, and which of a lane's groups may have it; None if nothing can be
        sent.

        First comes what was cut off, oldest first, then what is new; but one sequence of a tenant
        that has none running, credit or not.
        """
        taking: Sequence[ReplicaConnection] = groups.taking.members
        able: Sequence[ReplicaConnection] = groups.able.members
        if (reserved := self._reserved(lane.name, groups)) is not None:
            taking = [conn for conn in taking if conn is not reserved]
            able = [conn for conn in able if conn is not reserved]
        among = self._goes_to(lane.name)
        if able or self._resumption.has_any(among):
            seq = self._resumption.next_bystander(among) or lane.queue.head()
        else:
            able, seq = taking, lane.queue.head(lambda tenant: not lane.num_sent[tenant])
        if seq is not None and groups.least_tokens < num_tokens_at_most(seq.first):
            if any(conn.can_hold(seq.first) for conn in taking):
                # It was taken while a smaller group was not there.
                able = [conn for conn in able if conn.can_hold(seq.first)]
        return (seq, able) if seq is not None and able else None

    def _goes_to(self, name: str) -> Callable[[InflightSequence], bool]:
        """Say of a sequence that was cut off whether the groups of a name may have it."""
        resolved = self._names.resolve(name)
        return lambda seq: self._names.resolve(seq.group) == resolved

    def _try_suspects(self) -> None:
        """Start the next trials: in a group without work, or in one that has had suspects only."""
        if not (self._resumption.suspects or self._quarantined):
            return
        for conn in self.connections.values():
            seq = self._resumption.next_suspect(self._goes_to(self._names.of(conn.replica)))
            if seq is None:
                self._keep_for_suspects(conn, is_kept=conn.trial is not None)
            elif conn.credit > 0 and conn.trial is None and (conn.is_quarantine or not conn.sent):
                if self._assign(seq, conn):
                    conn.trial = seq
                    self._keep_for_suspects(conn, is_kept=True)

    def _keep_for_suspects(self, conn: ReplicaConnection, *, is_kept: bool) -> None:
        if conn.is_quarantine == is_kept:
            return
        conn.is_quarantine = is_kept
        (self._quarantined.add if is_kept else self._quarantined.discard)(conn)
        self.note(conn)

    def _reserved(self, name: str, groups: LaneGroups) -> ReplicaConnection | None:
        """Return which of the groups of a name is to be emptied for a suspect that has waited long
        for one."""
        if not self._resumption.needs_empty_group(self._goes_to(name)):
            return None
        resolved = self._names.resolve(name)
        if any(self._names.of(conn.replica) == resolved for conn in self._quarantined):
            return None
        return min(groups.working, key=lambda conn: len(conn.sent), default=None)

    def _assign(self, seq: InflightSequence, conn: ReplicaConnection) -> bool:
        """Move a sequence to a group, unless its ring is full; end it if no ring could hold it."""
        try:
            is_sent = conn.send(seq, self._vocabulary)
        except ValueError as error:
            self.end(seq, str(error), is_final=True)
            return False
        self.note(conn)
        if is_sent:
            lane = self.lane(seq.group)
            if not lane.queue.take(seq.seq_id):
                self._resumption.discard(seq.seq_id)
            self._connection_of[seq.seq_id] = conn
            lane.num_sent[seq.first.tenant] += 1
            seq.receiver.sent(seq.seq_id)
            if seq.lost_s:
                self._listener.on_resume(seq.lost_s)
        return is_sent

    def forget_sent(self, seq: InflightSequence) -> None:
        """A sequence is in no group any more."""
        del self._connection_of[seq.seq_id]
        self.lane(seq.group).num_sent[seq.first.tenant] -= 1

    def discard(self, seq_id: int) -> None:
        """Take a sequence out of the queues."""
        if not any(lane.queue.drop(seq_id) for lane in self._lanes.values()):
            self._resumption.discard(seq_id)

    def end(self, seq: InflightSequence, message: str, *, is_final: bool = False) -> None:
        """Forget a queued sequence and tell its receiver why."""
        self.discard(seq.seq_id)
        error = SeqOutput(seq.seq_id, [], FinishReason.ERROR, error=message, is_final=is_final)
        seq.receiver.receive(error)
