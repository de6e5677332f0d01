"""The replica groups as one worker sees them: submit, abort, and who gets which tokens.

Waiting requests stay here, first come first served. A group says in every frame how many tokens of
new work it would take; the pool hands out work against that credit only, to the group with the most
of it, so no group idles while work waits. Knows token ids, never text or HTTP.
"""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from backend.wire import messages
from backend.wire.messages import (
    Abort,
    FinishReason,
    Ready,
    SeqOutput,
    StepOutput,
    Submit,
    Vocabulary,
)
from backend.wire.pipe import PipeBroken, PipeReader
from backend.wire.ring import RingFds, RingWriter
from backend.wire.sampling import SamplingParams

logger = logging.getLogger(__name__)

# Aborts must get through when submits do not.
RESERVED_SHARE = 16
# Beyond it a newcomer waits longer than its client will.
MAX_WAITING = 2048
# A group that owes tokens and sends no frame for so long is stuck; the longest honest step is
# a prompt chunk in exact mode, about a second on a slow machine.
STALL_SECONDS = 10.0
LOST = "The process that computed this completion died. Please send the request again."


class PoolNotReady(Exception):
    """No group can take work now."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("no replica group is ready")
        self.retry_after_s = retry_after_s


class QueueFull(Exception):
    """Too many sequences wait already."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_s = retry_after_s


class Receiver(Protocol):
    """Who gets the tokens of a submitted sequence."""

    def sent(self, seq_id: int) -> None:
        """A sequence has left the queue for a group. May be called before submit() returns."""

    def receive(self, output: SeqOutput) -> None:
        """Take what one sequence got in a step. Called in the event loop; must not block."""


class GroupStatus(msgspec.Struct, frozen=True):
    """One group, for health checks. Loads are as of its last frame, of all workers together."""

    replica: int
    ready: bool
    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    seconds_since_progress: float


class PoolStatus(msgspec.Struct, frozen=True):
    """ready: new work is taken. stalled: a group owes tokens and makes no progress."""

    ready: bool
    draining: bool
    stalled: bool
    groups: list[GroupStatus]


@dataclass(slots=True, eq=False)
class _Group:
    """One life of a group. sent: sequences submitted to it that may still get tokens."""

    replica: int
    epoch: int
    ring: RingWriter
    pipe: PipeReader
    ready: Ready | None = None
    credit: int = 0
    last: StepOutput | None = None
    progress_s: float = field(default_factory=time.monotonic)
    sent: dict[int, Receiver] = field(default_factory=dict)
    unsent_aborts: list[int] = field(default_factory=list)
    knows_vocabulary: bool = False

    @property
    def seconds_since_progress(self) -> float:
        """How long it has owed tokens without a frame; 0 when it owes nothing."""
        return time.monotonic() - self.progress_s if self.sent else 0.0

    def status(self) -> GroupStatus:
        total = self.ready.kv_capacity_tokens // self.ready.block_size if self.ready else 0
        last = self.last
        return GroupStatus(
            self.replica,
            self.ready is not None,
            last.num_running if last else 0,
            last.num_waiting if last else 0,
            last.num_free_blocks if last else total,
            total,
            self.seconds_since_progress,
        )


class ReplicaPool:
    """All groups behind one worker. Lives in the worker's event loop."""

    def __init__(
        self, max_model_len: int, vocabulary: Callable[[], list[bytes]] = lambda: []
    ) -> None:
        """max_model_len: of the model, until a group says what it was started with.

        vocabulary: the bytes of every token; asked for when the first grammar is to be sent.
        """
        self.max_model_len = max_model_len
        self.on_ready: Callable[[int], None] = lambda replica: None  # a group takes work now
        self.on_frame: Callable[[int, StepOutput], None] = lambda replica, frame: None
        self._vocabulary = vocabulary
        self.kv_capacity_tokens = 0
        self._groups: dict[int, _Group] = {}
        self._group_of: dict[int, _Group] = {}
        self._waiting: dict[int, tuple[Submit, Receiver]] = {}
        self._seq_ids = itertools.count(1)
        self._is_draining = False
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()

    # requests

    def submit(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        receiver: Receiver,
        *,
        tenant: str = "",
        priority: int = 0,
        deadline: float = 0.0,
        cache_salt: str = "",
    ) -> int:
        """Queue one sequence; its tokens go to `receiver`. Returns its seq_id.

        Raises PoolNotReady or QueueFull; nothing is kept then.
        """
        if not any(group.ready for group in self._groups.values()) or self._is_draining:
            raise PoolNotReady(retry_after_s=2.0)
        if len(self._waiting) >= MAX_WAITING:
            raise QueueFull(retry_after_s=5.0)
        seq_id = next(self._seq_ids)
        submit = Submit(seq_id, prompt_ids, [], params, tenant, priority, deadline, cache_salt)
        self._waiting[seq_id] = (submit, receiver)
        self._idle.clear()
        self._hand_out()
        return seq_id

    def abort(self, seq_id: int) -> None:
        """Forget a sequence; its group frees it before its next step. Idempotent."""
        self._waiting.pop(seq_id, None)
        group = self._group_of.pop(seq_id, None)
        if group is not None:
            del group.sent[seq_id]
            group.unsent_aborts.append(seq_id)
            self._send_aborts(group)
        self._note_idle()

    def status(self) -> PoolStatus:
        """What health checks show, computed from the groups' progress."""
        groups = [group.status() for group in self._groups.values()]
        moving = [g for g in groups if g.ready and g.seconds_since_progress < STALL_SECONDS]
        return PoolStatus(
            ready=bool(moving) and not self._is_draining,
            draining=self._is_draining,
            stalled=not moving and any(g.ready for g in groups),
            groups=groups,
        )

    @property
    def num_queued(self) -> int:
        """Sequences that wait here for a group."""
        return len(self._waiting)

    async def drain(self) -> None:
        """Refuse new work and return when no sequence is left."""
        self._is_draining = True
        await self._idle.wait()

    def _hand_out(self) -> None:
        """Send waiting sequences to the groups that have credit, in order."""
        while self._waiting:
            able = [group for group in self._groups.values() if group.credit > 0]
            if not able:
                return
            group = max(able, key=lambda g: g.credit)
            seq_id, (submit, receiver) = next(iter(self._waiting.items()))
            try:
                is_sent = self._send(group, submit)
            except ValueError as error:  # larger than the ring
                del self._waiting[seq_id]
                receiver.receive(_error(seq_id, str(error)))
                continue
            if not is_sent:
                group.credit = 0  # until its next frame
                continue
            del self._waiting[seq_id]
            if not group.sent:
                group.progress_s = time.monotonic()
            group.credit -= len(submit.prompt_ids)
            group.sent[seq_id] = receiver
            self._group_of[seq_id] = group
            receiver.sent(seq_id)

    def _send(self, group: _Group, submit: Submit) -> bool:
        """Write a submit to a group's ring; False when it has no room. Raises ValueError."""
        if submit.params.grammar is not None and not group.knows_vocabulary:
            if not group.ring.write(messages.encode(Vocabulary(self._vocabulary()))):
                return False
            group.knows_vocabulary = True
        return group.ring.write(messages.encode(submit))

    def _send_aborts(self, group: _Group) -> None:
        while group.unsent_aborts:
            if not group.ring.write(messages.encode(Abort(group.unsent_aborts[0])), urgent=True):
                return
            group.unsent_aborts.pop(0)

    def _note_idle(self) -> None:
        if not self._waiting and not self._group_of:
            self._idle.set()

    # groups

    def attach(self, replica: int, epoch: int, fds: Sequence[int]) -> None:
        """Take the worker's end of a new channel: ring memory, doorbell, space, pipe."""
        self._lose(self._groups.get(replica))
        memory, doorbell, space, pipe = fds
        reserve_bytes = os.fstat(memory).st_size // RESERVED_SHARE
        fds_of_ring = RingFds(memory, (doorbell,), (space,))
        ring = RingWriter(fds_of_ring, epoch=epoch, reserve_bytes=reserve_bytes)
        group = _Group(replica, epoch, ring, PipeReader(pipe))
        self._groups[replica] = group
        asyncio.get_running_loop().add_reader(pipe, self._read, group)

    def detach(self, replica: int, epoch: int) -> None:
        """The group of this channel is dead."""
        group = self._groups.get(replica)
        if group is not None and group.epoch == epoch:
            self._lose(group)

    def _read(self, group: _Group) -> None:
        """Pass on every frame that has arrived, then hand out work for the new credit."""
        try:
            for frame in group.pipe.read():
                self._take(group, messages.decode_reply(frame))
        except (PipeBroken, msgspec.MsgspecError) as error:
            logger.error("replica=%d epoch=%d lost: %s", group.replica, group.epoch, error)
            self._lose(group)
        self._hand_out()
        self._note_idle()

    def _take(self, group: _Group, reply: messages.Reply) -> None:
        group.progress_s = time.monotonic()
        match reply:
            case StepOutput():
                group.last = reply
                group.credit = reply.credit
                for output in reply.outputs:
                    self._pass_on(group, output)
                self._send_aborts(group)
                self.on_frame(group.replica, reply)
            case Ready():
                group.ready = reply
                group.credit = reply.credit
                self.max_model_len = reply.max_model_len
                self.kv_capacity_tokens = reply.kv_capacity_tokens
                self.on_ready(group.replica)

    def _pass_on(self, group: _Group, output: SeqOutput) -> None:
        receiver = group.sent.get(output.seq_id)
        if receiver is None:
            return  # aborted while the frame was on its way
        if output.finish_reason is not None:
            del group.sent[output.seq_id]
            del self._group_of[output.seq_id]
        receiver.receive(output)

    def _lose(self, group: _Group | None) -> None:
        """Forget a group; its sequences end with an error."""
        if group is None or self._groups.get(group.replica) is not group:
            return
        del self._groups[group.replica]
        asyncio.get_running_loop().remove_reader(group.pipe.fileno())
        group.ring.close()
        group.pipe.close()
        lost, group.sent = group.sent, {}
        for seq_id in lost:
            del self._group_of[seq_id]
        for seq_id, receiver in lost.items():
            receiver.receive(_error(seq_id, LOST))
        self._note_idle()


def _error(seq_id: int, message: str) -> SeqOutput:
    return SeqOutput(seq_id, [], FinishReason.ERROR, error=message)
