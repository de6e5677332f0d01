"""The replica groups as one worker sees them: submit, abort, and who gets which tokens.

Waiting requests stay here, in an order that is fair to tenants. A group says in every frame how
many tokens of new work it would take; the pool hands out work against that credit, to the group
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
from gateway.pool.inflight import Entry, Receiver
from gateway.pool.poison import PoisonTable
from gateway.pool.refusals import CUT_OFF, LOST, POISONOUS, TOO_LATE, Poisonous, PoolNotReady
from gateway.pool.replica_connection import ReplicaConnection
from gateway.pool.resumption import VERDICT_SECONDS, Life, Resumption
from gateway.pool.routing import Pace, Router
from gateway.pool.status import PoolStatus, pool_status
from gateway.pool.submit_options import SubmitOptions
from gateway.tenant import Tenant

logger = logging.getLogger(__name__)


class ReplicaPool:
    """All groups behind one worker. Lives in the worker's event loop.

    An accepted sequence is in exactly one place: _queue, _resumption or a link's `sent`.
    """

    def __init__(
        self,
        max_model_len: int,
        vocabulary: Callable[[], list[bytes]] = lambda: [],
        *,
        resume_seconds: float = 120.0,
        queue_seconds: float = 60.0,
        max_waiting: int = 4096,
    ) -> None:
        """max_model_len: of the model, until a group says what it was started with.

        vocabulary: the bytes of every token; asked for when the first grammar is to be sent.
        resume_seconds: how long a sequence waits for another group when its own has died.
        queue_seconds, max_waiting: bounds of the queue; see admission.py.
        """
        self.max_model_len = max_model_len
        self.on_ready: Callable[[int], None] = lambda replica: None  # a group takes work now
        self.on_quiet: Callable[[int, int], None] = lambda replica, epoch: None  # see quiesce
        self.on_cut: Callable[[int, int], None] = lambda replica, epoch: None  # see _presume
        self.on_resume: Callable[[float], None] = lambda lost_s: None
        self.on_frame: Callable[[int, StepOutput], None] = lambda replica, frame: None
        self._vocabulary = vocabulary
        self._resume_seconds = resume_seconds
        self.kv_capacity_tokens = 0
        self._links: dict[int, ReplicaConnection] = {}
        self._paces: dict[int, Pace] = {}  # of the groups' last lives
        self._link_of: dict[int, ReplicaConnection] = {}  # of the sequences sent
        self._num_sent: Counter[str] = Counter()  # by tenant
        self._queue: FairQueue[Entry] = FairQueue()
        self._admission = Admission(queue_seconds=queue_seconds, max_waiting=max_waiting)
        self._router = Router()
        self._poison = PoisonTable()
        self._resumption = Resumption(self._poison)
        self._untold: set[Life] = set()  # lost without a word of a death
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
        self._admission.check(self._queue, tenant, time.monotonic())

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
        entry = Entry(first, receiver)
        self._queue.push(
            seq_id, entry, tenant, priority=options.priority, num_tokens=len(prompt_ids)
        )
        self._idle.clear()
        self._hand_out()
        return seq_id

    def _check_ready(self) -> None:
        if not any(link.takes_work for link in self._links.values()) or self._is_draining:
            raise PoolNotReady(retry_after_s=2.0)

    def abort(self, seq_id: int) -> None:
        """Forget a sequence; its group frees it before its next step. Idempotent."""
        if (link := self._link_of.get(seq_id)) is not None:
            entry = link.sent[seq_id]
            link.abort(entry)
            self._unlink(entry)
            if link.is_quarantine:
                self._hand_out()
        else:
            self._discard(seq_id)
        self._note_idle()

    def status(self) -> PoolStatus:
        """What health checks show, computed from the groups' progress."""
        groups = [link.status() for link in self._links.values()]
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
        sent = [entry for link in self._links.values() for entry in link.sent.values()]
        for entry in [*sent, *self._queue.items(), *self._resumption.overdue(0)]:
            self.abort(entry.seq_id)
            self._end(entry, CUT_OFF)

    def _hand_out(self) -> None:
        """Send waiting sequences to the groups that have credit, in order."""
        self._try_suspects()
        num_tokens = 0
        while (choice := self._next()) is not None:
            entry, groups = choice
            if entry.first.deadline and entry.first.deadline <= time.monotonic():
                self._end(entry, TOO_LATE)
                continue
            link = self._router.choose(groups, entry.first) if len(groups) > 1 else groups[0]
            had_credit = link.credit > 0
            if self._assign(entry, link):
                num_tokens += len(entry.first.prompt_ids)
            elif not had_credit:
                break  # its ring has no room, and no credit that would show it
        is_backlogged = len(self._queue) > 0
        self._admission.note(num_tokens, is_backlogged=is_backlogged, now_s=time.monotonic())

    def _next(self) -> tuple[Entry, list[ReplicaConnection]] | None:
        """What is next, and the groups that may have it: what was cut off, oldest first, then what
        is new; but one sequence of a tenant that has none running, credit or not."""
        reserved = self._reserved()
        taking = [
            link
            for link in self._links.values()
            if link.takes_work and not link.is_quarantine and link is not reserved
        ]
        able = [link for link in taking if link.credit > 0]
        if able or self._resumption:
            entry = self._resumption.next_bystander() or self._queue.head()
        else:
            able, entry = taking, self._queue.head(lambda tenant: not self._num_sent[tenant])
        return (entry, able) if entry is not None and able else None

    def _try_suspects(self) -> None:
        """Start the next trials: in a group without work, or in one that has had suspects only."""
        for link in self._links.values():
            entry = self._resumption.next_suspect()
            if entry is None:
                link.is_quarantine = link.trial is not None
            elif link.credit > 0 and link.trial is None and (link.is_quarantine or not link.sent):
                if self._assign(entry, link):
                    link.is_quarantine, link.trial = True, entry

    def _reserved(self) -> ReplicaConnection | None:
        """The group to be emptied for a suspect that has waited long for one."""
        links = self._links.values()
        if not self._resumption.needs_empty_group or any(link.is_quarantine for link in links):
            return None
        ready = [link for link in links if link.takes_work]
        return min(ready, key=lambda link: len(link.sent), default=None)

    def _assign(self, entry: Entry, link: ReplicaConnection) -> bool:
        """Move a sequence to a group, unless its ring is full; end it if no ring could hold it."""
        try:
            is_sent = link.send(entry, self._vocabulary)
        except ValueError as error:
            self._end(entry, str(error), is_final=True)
            return False
        if is_sent:
            if not self._queue.take(entry.seq_id):
                self._resumption.discard(entry.seq_id)
            self._link_of[entry.seq_id] = link
            self._num_sent[entry.first.tenant] += 1
            entry.receiver.sent(entry.seq_id)
            if entry.lost_s:
                self.on_resume(entry.lost_s)
        return is_sent

    def _unlink(self, entry: Entry) -> None:
        """A sequence is in no group any more."""
        del self._link_of[entry.seq_id]
        self._num_sent[entry.first.tenant] -= 1

    def _discard(self, seq_id: int) -> None:
        """Take a sequence out of the queues."""
        if not self._queue.drop(seq_id):
            self._resumption.discard(seq_id)

    def _end(self, entry: Entry, message: str, *, is_final: bool = False) -> None:
        """Forget a queued sequence and tell its receiver why."""
        self._discard(entry.seq_id)
        error = SeqOutput(entry.seq_id, [], FinishReason.ERROR, error=message, is_final=is_final)
        entry.receiver.receive(error)

    def _note_idle(self) -> None:
        for link in self._links.values():
            self._note_quiet(link)
        if not self._queue and not self._link_of and not self._resumption:
            self._idle.set()

    def _note_quiet(self, link: ReplicaConnection) -> None:
        if link.is_quiescing and not link.sent and not link.is_quiet:
            link.is_quiet = True
            self.on_quiet(link.replica, link.epoch)

    # groups

    def attach(self, replica: int, epoch: int, fds: Sequence[int]) -> None:
        """Take the worker's end of a new channel: ring memory, doorbell, space, pipe."""
        self._lose(self._links.get(replica))
        link = ReplicaConnection.open(replica, epoch, fds)
        if (known := self._paces.get(replica)) is not None:
            link.pace = known.heir()
        self._links[replica], self._paces[replica] = link, link.pace
        asyncio.get_running_loop().add_reader(link.pipe.fileno(), self._read, link)

    def quiesce(self, replica: int, epoch: int) -> None:
        """Hand a group nothing more; on_quiet is called once it has ended what it was given."""
        link = self._links.get(replica)
        if link is not None and link.epoch == epoch:
            link.is_quiescing, link.credit = True, 0
            self._note_quiet(link)

    def detach(self, replica: int, epoch: int, suspects: Iterable[int] = ()) -> None:
        """The group of this channel is dead; suspects: seq_ids of what may have been the cause."""
        link = self._links.get(replica)
        if link is not None and link.epoch == epoch:
            with contextlib.suppress(PipeBroken):
                # What it has computed need not be computed again.
                while replies := link.read():
                    for reply in replies:
                        self._take(link, reply)
            self._lose(link)
        self._untold.discard((replica, epoch))
        self._judge((replica, epoch), suspects)

    def _read(self, link: ReplicaConnection) -> None:
        """Pass on every frame that has arrived, then hand out work for the new credit."""
        try:
            for reply in link.read():
                self._take(link, reply)
        except PipeBroken as error:
            logger.error("replica=%d epoch=%d lost: %s", link.replica, link.epoch, error)
            self._lose(link)
        self._hand_out()
        self._note_idle()

    def _take(self, link: ReplicaConnection, reply: Reply) -> None:
        match reply:
            case StepOutput():
                link.take(reply)
                for output in reply.outputs:
                    self._pass_on(link, output)
                link.send_aborts()
                self.on_frame(link.replica, reply)
            case Ready():
                link.ready = reply
                link.grant(reply.credit)
                self.max_model_len = reply.max_model_len
                self.kv_capacity_tokens = reply.kv_capacity_tokens
                self.on_ready(link.replica)

    def _pass_on(self, link: ReplicaConnection, output: SeqOutput) -> None:
        entry = link.sent.get(output.seq_id)
        if entry is None:
            return  # aborted while the frame was on its way
        if output.finish_reason is not None:
            link.forget(entry)
            self._unlink(entry)
        self._queue.charge(entry.first.tenant, len(output.token_ids), output.num_cached_tokens)
        entry.deliver(output)
        if link.trial is entry and self._resumption.acquit(entry):
            link.trial = None

    # deaths

    def _lose(self, link: ReplicaConnection | None) -> None:
        """Forget a group; its sequences wait for the verdict on its death."""
        if link is None or self._links.get(link.replica) is not link:
            return
        del self._links[link.replica]
        loop = asyncio.get_running_loop()
        loop.remove_reader(link.pipe.fileno())
        lost = link.close()
        for entry in lost.values():
            self._unlink(entry)
        self._untold.add(link.life)
        loop.call_later(VERDICT_SECONDS, self._presume, link.life)
        if lost:
            logger.warning("replica=%d: %d sequences go on elsewhere", link.replica, len(lost))
            self._resumption.lose(link.life, lost)
            loop.call_later(self._resume_seconds, self._give_up)
        self._give_up_if_alone()

    def _presume(self, life: Life) -> None:
        """Go on without a verdict: it may be that only the channel has ended."""
        if life in self._untold:
            self._untold.discard(life)
            self.on_cut(*life)
            self._judge(life, ())

    def _judge(self, life: Life, suspects: Iterable[int]) -> None:
        """Sort a dead group's sequences and send them on."""
        condemned = self._resumption.judge(life, suspects)
        for entry in condemned:
            logger.error("seq_id=%d ended two groups, given up", entry.seq_id)
            self._end(entry, POISONOUS, is_final=True)
        self._hand_out()
        self._note_idle()

    def _give_up(self) -> None:
        """End the sequences that have waited too long for another group."""
        for entry in self._resumption.overdue(self._resume_seconds):
            self._end(entry, LOST)
        self._note_idle()

    def _give_up_if_alone(self) -> None:
        """End what waits when no group will come any more."""
        if self._is_draining and not self._links:
            for entry in [*self._queue.items(), *self._resumption.overdue(0)]:
                self._end(entry, LOST)
            self._note_idle()
