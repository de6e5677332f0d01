"""The replica groups as one worker sees them: submit, abort, and who gets which tokens.

Waiting requests stay here, in an order that is fair to tenants. A group says in every frame how
many tokens of new work it would take; the pool dispatches work against that credit, to the group
that will be first with it, so no group idles while work waits. Of groups with names, it is one of
those that the request named. What a group leaves unfinished when
it dies goes on elsewhere, before anything new: see resumption.py. Knows token ids, never text or
HTTP.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping

from backend.wire.channel import ChannelBroken, PeerGone, WorkerEnd
from backend.wire.messages import Ready, Reply, SeqOutput, Served, StepOutput, Submit
from backend.wire.sampling import SamplingParams
from gateway.group_names import GroupNames
from gateway.pool.admission import Admission
from gateway.pool.dispatcher import Dispatcher
from gateway.pool.door import Door
from gateway.pool.inflight import InflightSequence, Receiver
from gateway.pool.lane import Lane
from gateway.pool.listener import PoolListener
from gateway.pool.poison import PoisonTable
from gateway.pool.recovery import Recovery
from gateway.pool.refusals import CUT_OFF, LOST, Poisonous, PoolNotReady
from gateway.pool.replica_connection import ReplicaConnection
from gateway.pool.replica_epoch import ReplicaEpoch
from gateway.pool.resumption import Resumption
from gateway.pool.routing import StepCost
from gateway.pool.shared_service import SharedService
from gateway.pool.status import PoolStatus, pool_status
from gateway.pool.submit_options import SubmitOptions
from gateway.tenant import Tenant

logger = logging.getLogger(__name__)


class ReplicaPool:
    """All groups behind one worker. Lives in the worker's event loop."""

    def __init__(
        self,
        max_model_len: int,
        vocabulary: Callable[[], list[bytes]] = lambda: [],
        listener: PoolListener | None = None,
        *,
        resume_seconds: float = 120.0,
        queue_seconds: float = 60.0,
        max_waiting: int = 4096,
        names: Mapping[int, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """max_model_len: of the model, until a group says what it was started with; then, as
        kv_sequence_tokens, the smallest of the groups here: any of them may get a request.

        vocabulary: the bytes of every token; asked for when the first grammar is to be sent.
        listener: who is told of groups and frames.
        resume_seconds: how long a sequence waits for another group when its own has died.
        queue_seconds, max_waiting: bounds of the queue of each name; see admission.py.
        names: of groups, by number; see group_names.py.
        clock: CLOCK_MONOTONIC seconds, for deadlines and the queue.
        """
        self.max_model_len = max_model_len
        self.kv_sequence_tokens = 0  # 0: not known yet
        self._clock = clock
        self._listener = listener or PoolListener()
        self._step_costs: dict[int, StepCost] = {}  # of the groups' last epochs
        self.names = GroupNames(names)
        self._poison = PoisonTable()
        self._resumption = Resumption(self._poison)
        self._dispatcher = Dispatcher(
            self.names,
            self._resumption,
            lambda: Admission(queue_seconds=queue_seconds, max_waiting=max_waiting),
            vocabulary,
            self._listener,
            clock,
        )
        self._shared_service = SharedService(self._dispatcher)
        self._recovery = Recovery(
            self._dispatcher, self._resumption, self._listener, resume_seconds, self._note_idle
        )
        self._seq_ids = itertools.count(1)
        self._is_draining = False
        self._quiescing: set[ReplicaConnection] = set()
        self.door = Door(
            self._is_between_groups,
            clock,
            wait_seconds=queue_seconds,
            max_waiting=max_waiting,
        )
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()

    # requests

    def check_room(self, tenant: Tenant, group: str = "") -> None:
        """Raise PoolNotReady or QueueFull if no request of a tenant is taken now.

        group: the name that it gives, or none. Asked once for all sequences of a request, or the
        first would fill the queue for the rest.
        """
        lane = self._lane(group)
        self._check_ready(lane)
        lane.admission.check(lane.queue, tenant, self._clock())

    def submit(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        receiver: Receiver,
        options: SubmitOptions | None = None,
        *,
        second_segment: int = 0,
    ) -> int:
        """Queue one sequence; its tokens go to `receiver`. Returns its seq_id.

        second_segment: where the second of two texts begins, for models that are told so.
        Raises PoolNotReady or Poisonous; nothing is kept then.
        """
        options = options or SubmitOptions()
        lane = self._lane(options.group)
        self._check_ready(lane)
        seq_id = next(self._seq_ids)
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
            second_segment=second_segment,
        )
        if first in self._poison:
            raise Poisonous
        seq = InflightSequence(first, receiver, lane.name)
        lane.queue.push(seq_id, seq, tenant, priority=options.priority, num_tokens=len(prompt_ids))
        self._idle.clear()
        self._dispatcher.dispatch()
        return seq_id

    def _lane(self, group: str) -> Lane:
        return self._dispatcher.lane(self.names.resolve(group))

    def _is_between_groups(self, group: str) -> bool:
        """Whether none of a name takes work, but one did; a drained pool waits for none."""
        lane = self._lane(group)
        return lane.has_served and not self._takes_work(lane) and not self._is_draining

    def _takes_work(self, lane: Lane) -> bool:
        return len(self._dispatcher.groups_of(lane.name).working) > 0

    def _check_ready(self, lane: Lane) -> None:
        if not self._takes_work(lane) or self._is_draining:
            raise PoolNotReady(retry_after_s=2.0)

    def abort(self, seq_id: int) -> None:
        """Forget a sequence; its group frees it before its next step. Idempotent."""
        if (conn := self._dispatcher.connection_of(seq_id)) is not None:
            seq = conn.sent[seq_id]
            conn.abort(seq)
            self._dispatcher.forget_sent(seq)
            if conn.is_quarantine:
                self._dispatcher.dispatch()
        else:
            self._dispatcher.discard(seq_id)
        self._note_idle()

    def status(self) -> PoolStatus:
        """What health checks show, computed from the groups' progress."""
        connections = self._dispatcher.connections.values()
        groups = [conn.status(self.names.of(conn.replica)) for conn in connections]
        return pool_status(groups, is_draining=self._is_draining)

    @property
    def num_queued(self) -> int:
        """Sequences that wait here for a group."""
        return self._dispatcher.num_queued

    @property
    def queue_seconds(self) -> float:
        """How long what waits here is going to take, by the groups' pace of late."""
        return self._dispatcher.queue_seconds

    async def drain(self) -> None:
        """Refuse new work and return when no sequence is left."""
        self._is_draining = True
        self.door.tell()
        self._give_up_if_alone()
        await self._idle.wait()

    def cut_off(self) -> None:
        """End every sequence: the time to drain is up."""
        sent = [seq for conn in self._dispatcher.connections.values() for seq in conn.sent.values()]
        for seq in [*sent, *self._dispatcher.queued(), *self._resumption.overdue(0)]:
            self.abort(seq.seq_id)
            self._dispatcher.end(seq, CUT_OFF)

    def _note_idle(self) -> None:
        """Look whether anything is left: in a group that is to be quiesced, and in all."""
        for conn in self._quiescing:
            self._note_quiet(conn)
        if self._dispatcher.is_empty:
            self._idle.set()

    def _note_quiet(self, conn: ReplicaConnection) -> None:
        if conn.is_quiescing and not conn.sent and not conn.is_quiet:
            conn.is_quiet = True
            self._listener.on_quiet(conn.replica, conn.epoch)

    # groups

    def name_groups(self, names: Mapping[int, str]) -> None:
        """Take the names of all groups there are, by number. What waits for one that no group has
        any more goes on to the groups that answer where none is named."""
        self.names.set(names)
        self._dispatcher.note_names()
        self.door.tell()
        self._dispatcher.dispatch()
        self._note_idle()

    def attach(self, replica: int, epoch: int, end: WorkerEnd) -> None:
        """Take the worker's end of a new channel."""
        self._lose(self._dispatcher.connections.get(replica))
        conn = ReplicaConnection(replica, epoch, end)
        if (known := self._step_costs.get(replica)) is not None:
            conn.step_cost = known.inherit()
        self._step_costs[replica] = conn.step_cost
        self._dispatcher.connect(conn)
        end.listen(asyncio.get_running_loop(), functools.partial(self._read, conn))

    def quiesce(self, replica: int, epoch: int) -> None:
        """Send a group nothing more; the listener is told once it has ended what it was given."""
        conn = self._dispatcher.connections.get(replica)
        if conn is not None and conn.epoch == epoch:
            conn.is_quiescing, conn.credit = True, 0
            self._quiescing.add(conn)
            self._dispatcher.note(conn)
            self._note_quiet(conn)

    def detach(self, replica: int, epoch: int, suspects: Iterable[int] = ()) -> None:
        """The group of this channel is dead; suspects: seq_ids of what may have been the cause."""
        conn = self._dispatcher.connections.get(replica)
        if conn is not None and conn.epoch == epoch:
            with contextlib.suppress(ChannelBroken):
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
        except ChannelBroken as error:
            logger.error("group=%d epoch=%d lost: %s", conn.replica, conn.epoch, error)
            self._lose(conn, conn.presumed_suspects() if isinstance(error, PeerGone) else ())
        self._dispatcher.dispatch()
        self._note_idle()

    def _take(self, conn: ReplicaConnection, reply: Reply) -> None:
        match reply:
            case StepOutput():
                conn.take(reply)
                self._dispatcher.note(conn)
                for output in reply.outputs:
                    self._pass_on(conn, output)
                conn.send_aborts()
                self._shared_service.note()
                self._listener.on_frame(conn.replica, reply)
            case Served(tokens=tokens):
                self._lane(self.names.of(conn.replica)).queue.charge_elsewhere(tokens)
            case Ready():
                conn.ready = reply
                conn.grant(reply.credit)
                self._dispatcher.note(conn)
                self._lane(self.names.of(conn.replica)).has_served = True
                self.door.tell()
                self._note_capacity()
                self._listener.on_ready(conn.replica)

    def _note_capacity(self) -> None:
        """Promise what every group that is here can hold; without one, the last promise stays."""
        connections = self._dispatcher.connections.values()
        if readies := [conn.ready for conn in connections if conn.ready is not None]:
            self.max_model_len = min(ready.max_model_len for ready in readies)
            self.kv_sequence_tokens = min(ready.kv_sequence_tokens for ready in readies)

    def _pass_on(self, conn: ReplicaConnection, output: SeqOutput) -> None:
        seq = conn.sent.get(output.seq_id)
        if seq is None:
            return  # aborted while the frame was on its way
        if output.finish_reason is not None:
            conn.forget(seq)
            self._dispatcher.forget_sent(seq)
        self._dispatcher.lane(seq.group).queue.charge(
            seq.first.tenant, len(output.token_ids), output.num_cached_tokens
        )
        seq.deliver(output)
        if conn.trial is seq and self._resumption.acquit(seq):
            conn.trial = None

    def _lose(self, conn: ReplicaConnection | None, suspects: Iterable[int] = ()) -> None:
        """Forget a group; its sequences wait for the verdict on its death. suspects: seq_ids, if
        nobody gives a verdict."""
        if conn is None or self._dispatcher.connections.get(conn.replica) is not conn:
            return
        self._dispatcher.disconnect(conn)
        self._quiescing.discard(conn)
        self._note_capacity()
        lost = conn.close()
        for seq in lost.values():
            self._dispatcher.forget_sent(seq)
        self._recovery.lose(conn.replica_epoch, lost, suspects)
        self._give_up_if_alone()

    def _give_up_if_alone(self) -> None:
        """End what waits when no group will come any more."""
        if self._is_draining and not self._dispatcher.connections:
            for seq in [*self._dispatcher.queued(), *self._resumption.overdue(0)]:
                self._dispatcher.end(seq, LOST)
            self._note_idle()
