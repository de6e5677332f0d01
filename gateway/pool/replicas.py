"""The replica groups as one worker sees them: submit, abort, and who gets which tokens.

Waiting requests stay here, in an order that is fair to tenants. A group says in every frame how
many tokens of new work it would take; the pool dispatches work against that credit, to the group
that will be first with it, so no group idles while work waits. What a group leaves unfinished when
it dies goes on elsewhere, before anything new: see resumption.py. Knows token ids, never text or
HTTP.
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from backend.wire.local.pipe import PipeBroken
from backend.wire.messages import FinishReason, Ready, Reply, SeqOutput, StepOutput, Submit
from backend.wire.sampling import SamplingParams
from gateway.pool.admission import Admission
from gateway.pool.fair_queue import FairQueue
from gateway.pool.inflight import InflightSequence, Receiver
from gateway.pool.listener import PoolListener
from gateway.pool.poison import PoisonTable
from gateway.pool.recovery import Recovery
from gateway.pool.refusals import CUT_OFF, LOST, TOO_LATE, Poisonous, PoolNotReady
from gateway.pool.replica_connection import ReplicaConnection
from gateway.pool.replica_epoch import ReplicaEpoch
from gateway.pool.resumption import Resumption
from gateway.pool.routing import Router, StepCost
from gateway.pool.selection import select
from gateway.pool.status import PoolStatus, pool_status
from gateway.pool.submit_options import SubmitOptions
from gateway.tenant import Tenant

logger = logging.getLogger(__name__)


class ReplicaPool:
    """All groups behind one worker. Lives in the worker's event loop.

    An accepted sequence is in exactly one place: _queue, _resumption or a connection's `sent`.
    """

    def __init__(
        self,
        max_model_len: int,
        vocabulary: Callable[[], list[bytes]] = lambda: [],
        listener: PoolListener | None = None,
        *,
        resume_seconds: float = 120.0,
        queue_seconds: float = 60.0,
        max_waiting: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """max_model_len: of the model, until a group says what it was started with.

        vocabulary: the bytes of every token; asked for when the first grammar is to be sent.
        listener: who is told of groups and frames.
        resume_seconds: how long a sequence waits for another group when its own has died.
        queue_seconds, max_waiting: bounds of the queue; see admission.py.
        clock: CLOCK_MONOTONIC seconds, for deadlines and the queue.
        """
        self.max_model_len = max_model_len
        self._listener = listener or PoolListener()
        self._clock = clock
        self._vocabulary = vocabulary
        self.kv_capacity_tokens = 0
        self._connections: dict[int, ReplicaConnection] = {}
        self._step_costs: dict[int, StepCost] = {}  # of the groups' last epochs
        self._connection_of: dict[int, ReplicaConnection] = {}  # of the sequences sent
        self._num_sent: Counter[str] = Counter()  # by tenant
        self._queue: FairQueue[InflightSequence] = FairQueue()
        self._admission = Admission(queue_seconds=queue_seconds, max_waiting=max_waiting)
        self._router = Router()
        self._poison = PoisonTable()
        self._resumption = Resumption(self._poison)
        self._recovery = Recovery(self, self._resumption, self._listener, resume_seconds)
        self._seq_ids = itertools.count(1)
        self._is_draining = False
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()

    # requests

    def check_room(self, tenant: Tenant) -> None:
        """Raise PoolNotReady or QueueFull if no request of a tenant is taken now.

        Asked once for all sequences of a request, or the first would fill the queue for the rest.
        """
        self._check_ready()
        self._admission.check(self._queue, tenant, self._clock())

    def submit(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        receiver: Receiver,
        options: SubmitOptions | None = None,
    ) -> int:
        """Queue one sequence; its tokens go to `receiver`. Returns its seq_id.

        Raises PoolNotReady or Poisonous; nothing is kept then.
        """
        self._check_ready()
        seq_id = next(self._seq_ids)
        options = options or SubmitOptions()
        tenant = options.tenant
        first = Submit(
            seq_id,
            prompt_ids,
            [],
            params,
            tenant.id,
            options.priority,
            options.deadline,
            options.cache_salt,
        )
        if first in self._poison:
            raise Poisonous
        seq = InflightSequence(first, receiver)
        self._queue.push(seq_id, seq, tenant, priority=options.priority, num_tokens=len(prompt_ids))
        self._idle.clear()
        self.dispatch()
        return seq_id

    def _check_ready(self) -> None:
        if not any(conn.takes_work for conn in self._connections.values()) or self._is_draining:
            raise PoolNotReady(retry_after_s=2.0)

    def abort(self, seq_id: int) -> None:
        """Forget a sequence; its group frees it before its next step. Idempotent."""
        if (conn := self._connection_of.get(seq_id)) is not None:
            seq = conn.sent[seq_id]
            conn.abort(seq)
            self._forget_sent(seq)
            if conn.is_quarantine:
                self.dispatch()
        else:
            self._discard(seq_id)
        self.note_idle()

    def status(self) -> PoolStatus:
        """What health checks show, computed from the groups' progress."""
        groups = [conn.status() for conn in self._connections.values()]
        return pool_status(groups, is_draining=self._is_draining)

    @property
    def num_queued(self) -> int:
        """Sequences that wait here for a group."""
        return len(self._queue)

    async def drain(self) -> None:
        """Refuse new work and return when no sequence is left."""
        self._is_draining = True
        self._give_up_if_alone()
        await self._idle.wait()

    def cut_off(self) -> None:
        """End every sequence: the time to drain is up."""
        sent = [seq for conn in self._connections.values() for seq in conn.sent.values()]
        for seq in [*sent, *self._queue.items(), *self._resumption.overdue(0)]:
            self.abort(seq.seq_id)
            self.end(seq, CUT_OFF)

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
        is_backlogged = len(self._queue) > 0
        self._admission.note(num_tokens, is_backlogged=is_backlogged, now_s=self._clock())

    def _select(self) -> tuple[InflightSequence, list[ReplicaConnection]] | None:
        connections = self._connections.values()
        return select(self._queue, self._resumption, connections, self._num_sent)

    def _try_suspects(self) -> None:
        """Start the next trials: in a group without work, or in one that has had suspects only."""
        for conn in self._connections.values():
            seq = self._resumption.next_suspect()
            if seq is None:
                conn.is_quarantine = conn.trial is not None
            elif conn.credit > 0 and conn.trial is None and (conn.is_quarantine or not conn.sent):
                if self._assign(seq, conn):
                    conn.is_quarantine, conn.trial = True, seq

    def _assign(self, seq: InflightSequence, conn: ReplicaConnection) -> bool:
        """Move a sequence to a group, unless its ring is full; end it if no ring could hold it."""
        try:
            is_sent = conn.send(seq, self._vocabulary)
        except ValueError as error:
            self.end(seq, str(error), is_final=True)
            return False
        if is_sent:
            if not self._queue.take(seq.seq_id):
                self._resumption.discard(seq.seq_id)
            self._connection_of[seq.seq_id] = conn
            self._num_sent[seq.first.tenant] += 1
            seq.receiver.sent(seq.seq_id)
            if seq.lost_s:
                self._listener.on_resume(seq.lost_s)
        return is_sent

    def _forget_sent(self, seq: InflightSequence) -> None:
        """A sequence is in no group any more."""
        del self._connection_of[seq.seq_id]
        self._num_sent[seq.first.tenant] -= 1

    def _discard(self, seq_id: int) -> None:
        """Take a sequence out of the queues."""
        if not self._queue.drop(seq_id):
            self._resumption.discard(seq_id)

    def end(self, seq: InflightSequence, message: str, *, is_final: bool = False) -> None:
        """Forget a queued sequence and tell its receiver why."""
        self._discard(seq.seq_id)
        error = SeqOutput(seq.seq_id, [], FinishReason.ERROR, error=message, is_final=is_final)
        seq.receiver.receive(error)

    def note_idle(self) -> None:
        """Look whether anything is left: in a group that is to be quiesced, and in all."""
        for conn in self._connections.values():
            self._note_quiet(conn)
        if not self._queue and not self._connection_of and not self._resumption:
            self._idle.set()

    def _note_quiet(self, conn: ReplicaConnection) -> None:
        if conn.is_quiescing and not conn.sent and not conn.is_quiet:
            conn.is_quiet = True
            self._listener.on_quiet(conn.replica, conn.epoch)

    # groups

    def attach(self, replica: int, epoch: int, fds: Sequence[int]) -> None:
        """Take the worker's end of a new channel: ring memory, doorbell, space, pipe."""
        self._lose(self._connections.get(replica))
        conn = ReplicaConnection.open(replica, epoch, fds)
        if (known := self._step_costs.get(replica)) is not None:
            conn.step_cost = known.inherit()
        self._connections[replica], self._step_costs[replica] = conn, conn.step_cost
        asyncio.get_running_loop().add_reader(conn.pipe.fileno(), self._read, conn)

    def quiesce(self, replica: int, epoch: int) -> None:
        """Send a group nothing more; the listener is told once it has ended what it was given."""
        conn = self._connections.get(replica)
        if conn is not None and conn.epoch == epoch:
            conn.is_quiescing, conn.credit = True, 0
            self._note_quiet(conn)

    def detach(self, replica: int, epoch: int, suspects: Iterable[int] = ()) -> None:
        """The group of this channel is dead; suspects: seq_ids of what may have been the cause."""
        conn = self._connections.get(replica)
        if conn is not None and conn.epoch == epoch:
            with contextlib.suppress(PipeBroken):
                # What it has computed need not be computed again.
                while replies := conn.read():
                    for reply in replies:
                        self._take(conn, reply)
            self._lose(conn)
        self._recovery.judge(ReplicaEpoch(replica, epoch), suspects)

    def _read(self, conn: ReplicaConnection) -> None:
        """Pass on every frame that has arrived, then dispatch work for the new credit."""
        try:
            for reply in conn.read():
                self._take(conn, reply)
        except PipeBroken as error:
            logger.error("replica=%d epoch=%d lost: %s", conn.replica, conn.epoch, error)
            self._lose(conn)
        self.dispatch()
        self.note_idle()

    def _take(self, conn: ReplicaConnection, reply: Reply) -> None:
        match reply:
            case StepOutput():
                conn.take(reply)
                for output in reply.outputs:
                    self._pass_on(conn, output)
                conn.send_aborts()
                self._listener.on_frame(conn.replica, reply)
            case Ready():
                conn.ready = reply
                conn.grant(reply.credit)
                self.max_model_len = reply.max_model_len
                self.kv_capacity_tokens = reply.kv_capacity_tokens
                self._listener.on_ready(conn.replica)

    def _pass_on(self, conn: ReplicaConnection, output: SeqOutput) -> None:
        seq = conn.sent.get(output.seq_id)
        if seq is None:
            return  # aborted while the frame was on its way
        if output.finish_reason is not None:
            conn.forget(seq)
            self._forget_sent(seq)
        self._queue.charge(seq.first.tenant, len(output.token_ids), output.num_cached_tokens)
        seq.deliver(output)
        if conn.trial is seq and self._resumption.acquit(seq):
            conn.trial = None

    def _lose(self, conn: ReplicaConnection | None) -> None:
        """Forget a group; its sequences wait for the verdict on its death."""
        if conn is None or self._connections.get(conn.replica) is not conn:
            return
        del self._connections[conn.replica]
        asyncio.get_running_loop().remove_reader(conn.pipe.fileno())
        lost = conn.close()
        for seq in lost.values():
            self._forget_sent(seq)
        self._recovery.lose(conn.replica_epoch, lost)
        self._give_up_if_alone()

    def _give_up_if_alone(self) -> None:
        """End what waits when no group will come any more."""
        if self._is_draining and not self._connections:
            for seq in [*self._queue.items(), *self._resumption.overdue(0)]:
                self.end(seq, LOST)
            self.note_idle()
