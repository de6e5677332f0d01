"""The heartbeat page: what the ranks of one incarnation of a group do, for the supervisor's eyes.

    field                single writer    read by
    heartbeats [ranks]   each rank        supervisor
    batches    [n + 1]   the lead         supervisor: n steps in turn, then what is admitted

    heartbeat   crc32 u32, phase u32, epoch u64, step u64, phase started u64, progress u64,
                typical step u64, running u32, waiting u32, free blocks u32, device [24],
                refused [8] u32
    batch       crc32 u32, suspects u32, step u64, sequences u32, tokens u32,
                then for each suspect worker u64, seq_id u64

Times are CLOCK_MONOTONIC in ns, which all processes share. Nobody locks: a record is copied in as
a whole under a checksum of all that follows it, so one that is being written, or was left half
written by a death, is told apart. Batches of two steps are kept because a follower may still be in
the step before the lead's; of more, where several steps are under way.
"""

import enum
import mmap
import os
import select
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from backend.wire.local.ring import create_memory

CRC = struct.Struct("<I")
HEARTBEAT = struct.Struct("<IQQQQQIII24s8I")
HEARTBEAT_BYTES = 128  # each rank has a cache line or two of its own
BATCH = struct.Struct("<IQII")
SUSPECT = struct.Struct("<QQ")
ADMISSION = -1  # this batch is no step
# How often a rank that has nothing to do shows that it could.
IDLE_BEAT_MS = 1000
# What handshake.Reason has.
NUM_REASONS = 8
# A reader that finds a record torn looks again; a copy takes under a microsecond.
READ_ATTEMPTS = 3
# The average looks back on so many steps.
MEMORY_STEPS = 10
# The warm-up runs a short prompt chunk; eight times its time, which is what the longest may take,
# is never a hang: the watch in gateway/supervision/hang.py allows 20 times a typical step.
WARM_UP_SHARE = 0.4


class Phase(enum.IntEnum):
    """What a rank does. In ADMIT the lead takes in a new sequence between two steps."""

    LOAD = 0
    WARM_UP = 1
    IDLE = 2
    STEP = 3
    ADMIT = 4


@dataclass(frozen=True, slots=True)
class Load:
    """What a group holds, and whom it has refused; the lead's heartbeat tells it.

    num_refused: connections that came to nothing in this incarnation, by the places of
    handshake.Reason.
    """

    num_running: int = 0
    num_waiting: int = 0
    num_free_blocks: int = 0
    num_refused: tuple[int, ...] = (0,) * NUM_REASONS

    @property
    def num_sequences(self) -> int:
        return self.num_running + self.num_waiting


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A rank's last sign of life. typical_step_ns: what a step takes, on average."""

    phase: Phase
    epoch: int
    step: int
    phase_started_ns: int
    progress_ns: int
    typical_step_ns: int = 0
    load: Load = Load()
    device: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step runs. suspects: (worker, seq_id) of what is new or changed in it."""

    step: int
    num_seqs: int
    num_tokens: int
    suspects: list[tuple[int, int]]


class HeartbeatWriter:
    """A rank's end of the page: says what it is about to do, and that it gets on."""

    def __init__(
        self,
        memory_fd: int,
        rank: int,
        num_ranks: int,
        epoch: int,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        num_steps: int = 2,
    ) -> None:
        """memory_fd: the page's, which the writer owns from now on. num_steps: the page's."""
        self._clock_ns = clock_ns
        self._memory = mmap.mmap(memory_fd, os.fstat(memory_fd).st_size)
        os.close(memory_fd)
        self._at = rank * HEARTBEAT_BYTES
        self._batches = _Batches(len(self._memory), num_ranks, num_steps)
        self._epoch = epoch
        self._phase = Phase.LOAD
        self._step = 0
        self._started_ns = clock_ns()
        self._average_ns = 0
        self._least_ns = 0
        self._load = Load()
        self._device = b""
        self.beat()

    def enter(self, phase: Phase, step: int | None = None) -> None:
        """Begin a phase; the one before is over."""
        now = self._clock_ns()
        took = now - self._started_ns
        if self._phase is Phase.STEP:
            self._average_ns += (took - self._average_ns) // MEMORY_STEPS
        elif self._phase is Phase.WARM_UP:
            self._least_ns = int(WARM_UP_SHARE * took)
        self._phase, self._started_ns = phase, now
        if step is not None:
            self._step = step
        self._write(now)

    def beat(self) -> None:
        """Show progress within a phase."""
        self._write(self._clock_ns())

    def wait(
        self, poll: "select.poll", on_beat: Callable[[], None] = lambda: None
    ) -> list[tuple[int, int]]:
        """Sleep until a registered descriptor is ready, and beat meanwhile. on_beat: called
        before each."""
        while not (ready := poll.poll(IDLE_BEAT_MS)):
            on_beat()
            self.beat()
        self.beat()
        return ready

    def show(self, load: Load, device: str = "") -> None:
        """Have the next heartbeats carry the group's load, and the rank's device if it is known."""
        self._load = load
        if device:
            self._device = device.encode()[:24]

    def name_step(
        self, step: int, num_seqs: int, num_tokens: int, suspects: Sequence[tuple[int, int]]
    ) -> None:
        """Name what a step runs, before it does; then enter it."""
        self._name(step % self._batches.num_steps, step, num_seqs, num_tokens, suspects)
        self.enter(Phase.STEP, step)

    def mark_admitting(self, suspect: tuple[int, int]) -> None:
        """Name a sequence before it is taken in."""
        self._name(ADMISSION, self._step, 1, 0, [suspect])
        self.enter(Phase.ADMIT)

    def _name(
        self,
        which: int,
        step: int,
        num_seqs: int,
        num_tokens: int,
        suspects: Sequence[tuple[int, int]],
    ) -> None:
        named = suspects[: self._batches.max_suspects]
        body = BATCH.pack(len(named), step, num_seqs, num_tokens)
        body += b"".join(SUSPECT.pack(*suspect) for suspect in named)
        self._put(self._batches.at(which), body)

    def _write(self, now: int) -> None:
        load = self._load
        body = HEARTBEAT.pack(
            self._phase,
            self._epoch,
            self._step,
            self._started_ns,
            now,
            max(self._average_ns, self._least_ns),
            load.num_running,
            load.num_waiting,
            load.num_free_blocks,
            self._device,
            *load.num_refused,
        )
        self._put(self._at, body)

    def _put(self, at: int, body: bytes) -> None:
        record = CRC.pack(zlib.crc32(body)) + body
        self._memory[at : at + len(record)] = record


class HeartbeatPage:
    """The supervisor's end; it makes one for each incarnation of a group."""

    def __init__(self, num_ranks: int, max_suspects: int, epoch: int, num_steps: int = 2) -> None:
        """num_steps: of how many batches are kept."""
        size = num_ranks * HEARTBEAT_BYTES + (num_steps + 1) * _batch_bytes(max_suspects)
        self.fd = create_memory("unisono-heartbeat", size)
        self._memory = mmap.mmap(self.fd, size)
        self._batches = _Batches(size, num_ranks, num_steps)
        now = time.monotonic_ns()
        self._last = [Heartbeat(Phase.LOAD, epoch, 0, now, now)] * num_ranks
        self._epoch = epoch

    def heartbeats(self) -> list[Heartbeat]:
        """Return every rank's last legible heartbeat.

        A rank that has not begun counts as loading since the page was made.
        """
        for rank in range(len(self._last)):
            body = self._read(rank * HEARTBEAT_BYTES, HEARTBEAT.size)
            if body is not None:
                heartbeat = _heartbeat(HEARTBEAT.unpack(body))
                if heartbeat.epoch == self._epoch:
                    self._last[rank] = heartbeat
        return list(self._last)

    def batch(self, rank: int) -> Batch | None:
        """Return what a rank was computing when it was last heard of; None if it was nothing."""
        last = self.heartbeats()[rank]
        if last.phase is Phase.ADMIT:
            return self._batch(ADMISSION, last.step)
        which = last.step % self._batches.num_steps
        return self._batch(which, last.step) if last.phase is Phase.STEP else None

    def batch_of(self, step: int) -> Batch | None:
        """Return what a step runs, if the lead has named it and few have come after it."""
        return self._batch(step % self._batches.num_steps, step)

    def close(self) -> None:
        """Release the page."""
        self._memory.close()
        os.close(self.fd)

    def _batch(self, which: int, step: int) -> Batch | None:
        at = self._batches.at(which)
        for _ in range(READ_ATTEMPTS):
            count = BATCH.unpack_from(self._memory, at + CRC.size)[0]
            if count > self._batches.max_suspects:
                continue
            body = self._read(at, BATCH.size + count * SUSPECT.size)
            if body is not None:
                _, named, num_seqs, num_tokens = BATCH.unpack_from(body)
                suspects = list(SUSPECT.iter_unpack(body[BATCH.size :]))
                return Batch(step, num_seqs, num_tokens, suspects) if named == step else None
        return None

    def _read(self, at: int, size: int) -> bytes | None:
        """Return a record's body; None while it is torn, or has never been written."""
        for _ in range(READ_ATTEMPTS):
            record = self._memory[at : at + CRC.size + size]
            body = record[CRC.size :]
            # One never written is all zeros, and the checksum of zeros is not 0.
            if CRC.unpack_from(record)[0] == zlib.crc32(body):
                return body
        return None


def num_batches(num_stages: int) -> int:
    """Return of how many steps a page keeps what they run: those that may be under way, and one
    whose end the lead has heard of sooner than its rank has shown it."""
    return num_stages + 1


class _Batches:
    """Where the batches lie in the page."""

    def __init__(self, size: int, num_ranks: int, num_steps: int) -> None:
        self.num_steps = num_steps
        self._start = num_ranks * HEARTBEAT_BYTES
        self._bytes = (size - self._start) // (num_steps + 1)
        self.max_suspects = (self._bytes - CRC.size - BATCH.size) // SUSPECT.size

    def at(self, which: int) -> int:
        return self._start + which % (self.num_steps + 1) * self._bytes


def _batch_bytes(max_suspects: int) -> int:
    return CRC.size + BATCH.size + max_suspects * SUSPECT.size


def _heartbeat(fields: tuple[Any, ...]) -> Heartbeat:
    phase, epoch, step, started, progress, typical, running, waiting, free, device = fields[:10]
    return Heartbeat(
        phase=Phase(phase),
        epoch=epoch,
        step=step,
        phase_started_ns=started,
        progress_ns=progress,
        typical_step_ns=typical,
        load=Load(running, waiting, free, fields[10:]),
        device=device.rstrip(b"\0").decode(errors="replace"),
    )
