"""A mock engine: a lead that computes nothing, to measure what the gateway costs.

It speaks the same channels and control line as lead.py, and emits as that does: at a set rate one
frame a step, with a token for every sequence. Knows no model. Started by `unisono bench gateway`,
never by serve.
"""

import itertools
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backend.wire.channel import ChannelBroken, LeadEnd
from backend.wire.control import Attach, ChildLine, ControlClosed, Listen, Stop
from backend.wire.local.child import ChildContext
from backend.wire.local.ends import LocalLeadEnd
from backend.wire.messages import (
    Abort,
    FinishReason,
    Ready,
    Request,
    SeqOutput,
    StepOutput,
    StepTimings,
    Submit,
)
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.ends import TcpLeadEnd

# Nothing is ever scarce here.
PLENTY = 1 << 24


@dataclass(frozen=True, slots=True)
class MockSpawn:
    """What the process is told at spawn.

    token_ids: emitted in turn, after first_ids. steps_per_s: 0 for as many as the worker's pipe
    takes.
    times_file: gets the time of every step, CLOCK_MONOTONIC seconds as msgpack, at the end.
    """

    token_ids: tuple[int, ...]
    steps_per_s: float
    times_file: Path
    first_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class _Sequence:
    seq_id: int
    token_ids: Iterator[int]
    num_left: int


def lead_main(context: ChildContext, spawn: MockSpawn) -> None:
    """Entry point of the spawned process; returns when told to stop."""
    lead = MockLead(context.begin(), spawn)
    try:
        lead.run()
    except ControlClosed:
        return
    spawn.times_file.write_bytes(msgspec.msgpack.encode(lead.step_times_s))


class MockLead:
    """The group's side of one channel. One worker, whose frames are written whole or waited for."""

    def __init__(self, line: ChildLine, spawn: MockSpawn) -> None:
        self.step_times_s: list[float] = []
        self._line = line
        self._token_ids = spawn.token_ids
        self._first_ids = spawn.first_ids
        self._period_s = 1 / spawn.steps_per_s if spawn.steps_per_s else 0.0
        self._sequences: dict[int, _Sequence] = {}
        self._is_stopped = False
        self._channel: LeadEnd | None = None
        self._acceptor: Acceptor | None = None
        line.send(self._ready(0))

    def run(self) -> None:
        """Serve until told to stop."""
        due_s = time.monotonic()
        while not self._is_stopped:
            now_s = time.monotonic()
            if not self._can_step:
                due_s = now_s
            elif now_s >= due_s:
                self._step()
                due_s += self._period_s
            self._receive(max(0.0, due_s - time.monotonic()) if self._can_step else None)

    @property
    def _can_step(self) -> bool:
        return bool(self._sequences) and self._has_room

    @property
    def _has_room(self) -> bool:
        return self._channel is not None and not self._channel.has_backlog

    def _ready(self, epoch: int) -> Ready:
        return Ready(
            replica=0,
            epoch=epoch,
            device="none",
            dtype="none",
            kernels="none",
            max_model_len=PLENTY,
            kv_sequence_tokens=PLENTY,
            kv_capacity_tokens=PLENTY,
            kv_bytes=0,
            num_blocks=PLENTY // 16,
            block_size=16,
            weight_bytes=[0],
            replicated_bytes=0,
            credit=PLENTY,
        )

    def _receive(self, timeout_s: float | None) -> None:
        """Take what has arrived, or arrives within the time."""
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        if self._channel is not None:
            self._channel.register(poll)
        if self._acceptor is not None:
            poll.register(self._acceptor, select.POLLIN)
        # Rounded down to milliseconds: what is left is spent turning, so steps are on time.
        poll.poll(None if timeout_s is None else int(timeout_s * 1000))
        while (packet := self._line.receive()) is not None:
            self._apply_control(*packet)
        if self._acceptor is not None:
            for hello, stream in self._acceptor.take():
                self._welcome(TcpLeadEnd(hello.epoch, stream))
        if self._channel is not None:
            try:
                for request in self._channel.receive():
                    self._apply_request(request)
            except ChannelBroken:
                self._channel.close()
                self._channel = None

    def _apply_control(self, message: object, fds: list[int]) -> None:
        match message:
            case Attach(epoch=epoch):
                self._welcome(LocalLeadEnd(epoch, fds))
            case Listen(secret=secret, incarnation=incarnation):
                listener = socket.socket(fileno=fds[0])
                self._acceptor = Acceptor(listener, secret, incarnation)
            case Stop():
                self._is_stopped = True

    def _welcome(self, channel: LeadEnd) -> None:
        self._channel = channel
        channel.send(self._ready(channel.epoch))

    def _apply_request(self, request: Request) -> None:
        match request:
            case Submit(seq_id=seq_id, params=params):
                token_ids = itertools.chain(self._first_ids, itertools.cycle(self._token_ids))
                self._sequences[seq_id] = _Sequence(seq_id, token_ids, params.max_tokens)
            case Abort(seq_id=seq_id):
                self._sequences.pop(seq_id, None)

    def _step(self) -> None:
        outputs = [self._output(sequence) for sequence in list(self._sequences.values())]
        frame = StepOutput(
            step=len(self.step_times_s) + 1,
            outputs=outputs,
            timings=StepTimings(),
            credit=PLENTY,
            num_running=len(self._sequences),
            num_waiting=0,
            num_free_blocks=PLENTY,
        )
        assert self._channel is not None
        self.step_times_s.append(time.monotonic())
        self._channel.send(frame)

    def _output(self, sequence: _Sequence) -> SeqOutput:
        sequence.num_left -= 1
        if sequence.num_left > 0:
            return SeqOutput(sequence.seq_id, [next(sequence.token_ids)])
        del self._sequences[sequence.seq_id]
        return SeqOutput(sequence.seq_id, [next(sequence.token_ids)], FinishReason.LENGTH)
