"""A mock engine: a lead that computes nothing, to measure what the gateway costs.

It speaks the same ring, pipe and control line as lead.py, and emits as that does: at a set rate one
frame a step, with a token for every sequence. Knows no model. Started by `unisono bench gateway`,
never by serve.
"""

import itertools
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from backend.wire import messages
from backend.wire.control import Attach, ChildLine, ControlClosed, Stop
from backend.wire.local.channel import ChannelEnd
from backend.wire.local.child import ChildContext
from backend.wire.local.pipe import PipeWriter
from backend.wire.local.ring import RingReader
from backend.wire.messages import (
    Abort,
    FinishReason,
    Ready,
    SeqOutput,
    StepOutput,
    StepTimings,
    Submit,
)

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
        self._poll = select.poll()
        self._poll.register(line, select.POLLIN)
        self._ring: RingReader | None = None
        self._pipe: PipeWriter | None = None
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
        return bool(self._sequences) and self._pipe is not None and not self._pipe.has_backlog

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
        if self._pipe is not None:
            self._poll.register(self._pipe, select.POLLOUT if self._pipe.has_backlog else 0)
        # Rounded down to milliseconds: what is left is spent turning, so steps are on time.
        self._poll.poll(None if timeout_s is None else int(timeout_s * 1000))
        while (packet := self._line.receive()) is not None:
            self._apply_control(*packet)
        if self._pipe is not None and self._ring is not None:
            self._pipe.flush()
            for record in self._ring.read():
                self._apply_request(record)

    def _apply_control(self, message: object, fds: list[int]) -> None:
        match message:
            case Attach(epoch=epoch):
                end = ChannelEnd(*fds)
                self._ring = RingReader(end.ring, epoch=epoch)
                self._pipe = PipeWriter(end.pipe)
                self._poll.register(self._ring, select.POLLIN)
                self._pipe.write(messages.encode(self._ready(epoch)))
            case Stop():
                self._is_stopped = True

    def _apply_request(self, record: bytes) -> None:
        match messages.decode_request(record):
            case Submit(seq_id=seq_id, params=params):
                token_ids = itertools.chain(self._first_ids, itertools.cycle(self._token_ids))
                self._sequences[seq_id] = _Sequence(seq_id, token_ids, params.max_tokens)
            case Abort(seq_id=seq_id):
                self._sequences.pop(seq_id, None)

    def _step(self) -> None:
        outputs = [self._output(sequence) for sequence in list(self._sequences.values())]
        frame = messages.encode(
            StepOutput(
                step=len(self.step_times_s) + 1,
                outputs=outputs,
                timings=StepTimings(),
                credit=PLENTY,
                num_running=len(self._sequences),
                num_waiting=0,
                num_free_blocks=PLENTY,
            )
        )
        assert self._pipe is not None
        self.step_times_s.append(time.monotonic())
        self._pipe.write(frame)

    def _output(self, sequence: _Sequence) -> SeqOutput:
        sequence.num_left -= 1
        if sequence.num_left > 0:
            return SeqOutput(sequence.seq_id, [next(sequence.token_ids)])
        del self._sequences[sequence.seq_id]
        return SeqOutput(sequence.seq_id, [next(sequence.token_ids)], FinishReason.LENGTH)
