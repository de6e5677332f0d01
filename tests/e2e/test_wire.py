"""The documented bytes on the wire, spoken by hand to a real group of ranks.

The test is supervisor and worker in one. It uses neither RingWriter nor PipeReader nor the message
types: what moves between processes is what ring.py and pipe.py document, or this fails.
"""

import mmap
import os
import select
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.ranks.local_replica import LocalReplica
from backend.settings import EngineSettings
from backend.wire.local.channel import create_channel
from backend.wire.messages import Ready
from tests.e2e.server import wait_until

pytestmark = pytest.mark.e2e

EPOCH = 7
TIMEOUT_S = 180.0
RECORD_HEADER = struct.Struct("<IIQQII")  # magic, length, epoch, sequence, crc32, 0
MAGIC = 0x0517050A
FRAME_HEADER = struct.Struct("<II")  # length, crc32
MAX_TOKENS = 6


class Group:
    """A group of ranks, and the worker's end of a channel to it as bare descriptors."""

    def __init__(self, model: Path, tp: int) -> None:
        settings = EngineSettings(
            model=str(model), tp=tp, dtype="float32", kv_cache_bytes=1 << 22, threads=1
        )
        self._replica = LocalReplica(0, 1, settings)
        wait_until(self._is_ready, TIMEOUT_S, "the group is ready")
        channel = create_channel()
        self._replica.attach(0, EPOCH, channel)
        os.close(channel.pipe_write)
        self._ring_fds = channel.ring.all()
        self._memory = mmap.mmap(channel.ring.memory, 0)
        [self.doorbell] = channel.ring.doorbells
        [self.space] = channel.ring.spaces
        self.pipe = channel.pipe_read
        self._position = 0
        self._sequence = 0

    def _is_ready(self) -> bool:
        message = self._replica.ranks[0].line.receive()
        assert self._replica.ranks[0].is_alive
        return isinstance(message, Ready)

    def place(self, message: list[Any]) -> int:
        """Put one record into the memory, without ringing; return the bytes it takes."""
        payload = msgspec.msgpack.encode(message)
        header = RECORD_HEADER.pack(
            MAGIC, len(payload), EPOCH, self._sequence, zlib.crc32(payload), 0
        )
        record = header + payload
        self._memory[self._position : self._position + len(record)] = record
        size = -(-len(record) // 64) * 64
        self._position += size
        self._sequence += 1
        return size

    def ring(self, num_records: int) -> None:
        os.eventfd_write(self.doorbell, num_records)

    def frames(self) -> Iterator[list[Any]]:
        """Yield the messages that come up the pipe, decoded without their types."""
        buffer = b""
        while True:
            while len(buffer) < FRAME_HEADER.size or len(buffer) < self._frame_end(buffer):
                readable, _, _ = select.select([self.pipe], [], [], TIMEOUT_S)
                assert readable, "no frame came"
                piece = os.read(self.pipe, 1 << 16)
                assert piece, "the lead closed the pipe"
                buffer += piece
            end = self._frame_end(buffer)
            _, crc = FRAME_HEADER.unpack_from(buffer)
            payload, buffer = buffer[FRAME_HEADER.size : end], buffer[end:]
            assert zlib.crc32(payload) == crc
            yield msgspec.msgpack.decode(payload)

    @staticmethod
    def _frame_end(buffer: bytes) -> int:
        return FRAME_HEADER.size + int(FRAME_HEADER.unpack_from(buffer)[0])

    def damage(self, position: int) -> None:
        """Flip a bit of the memory."""
        self._memory[position] ^= 1

    def wait_for_death(self) -> None:
        """Wait for the lead to exit of itself, with a status that tells a failure."""
        lead = self._replica.ranks[0]
        wait_until(lambda: not lead.is_alive, TIMEOUT_S, "the lead gives up")
        assert lead.exit_code == 1

    def close(self) -> None:
        self._replica.stop()
        ranks = self._replica.ranks
        try:
            wait_until(lambda: not any(rank.is_alive for rank in ranks), 60, "the ranks stop")
        finally:
            self._replica.kill()
            self._replica.close()
        self._memory.close()
        for fd in (*self._ring_fds, self.pipe):
            os.close(fd)


def submit(seq_id: int, prompt_ids: list[int]) -> list[Any]:
    """A greedy request: temperature, top_p, top_k, min_p, seed, choice, max_tokens, ignore_eos."""
    params = [0.0, 1.0, 0, 0.0, 0, 0, MAX_TOKENS, True]
    return ["submit", seq_id, prompt_ids, [], params, "", 0, 0.0, ""]


def spoken(group: Group) -> dict[int, list[int]]:
    """Two requests in two records behind one ring of the bell; return the tokens of each."""
    frames = group.frames()
    kind, replica, epoch, *_ = next(frames)
    assert (kind, replica, epoch) == ("ready", 0, EPOCH)
    size = group.place(submit(1, [5, 6, 7, 8])) + group.place(submit(2, list(range(3, 103))))
    group.ring(2)
    tokens: dict[int, list[int]] = {1: [], 2: []}
    reasons: dict[int, str] = {}
    last_step = 0
    for kind, step, outputs, timings, *_ in frames:
        assert kind == "step"
        assert all(seconds >= 0 for seconds in timings)
        if outputs:  # a frame without any only tells the load
            assert step > last_step
            last_step = step
        for seq_id, token_ids, reason, *_ in outputs:
            tokens[seq_id] += token_ids
            if reason is not None:
                reasons[seq_id] = reason
        if len(reasons) == 2:
            break
    assert reasons == {1: "length", 2: "length"}
    assert os.eventfd_read(group.space) == size, "the reader gives back what it has copied out"
    return tokens


def test_ring_and_pipe_carry_the_documented_bytes(tiny_model: Path) -> None:
    tokens = {}
    for tp in (1, 2):
        group = Group(tiny_model, tp)
        try:
            tokens[tp] = spoken(group)
        finally:
            group.close()
    assert all(len(ids) == MAX_TOKENS for ids in tokens[1].values())
    assert tokens[2] == tokens[1]


def test_record_counts_only_once_its_bell_rings(tiny_model: Path) -> None:
    """Nothing looks at the memory before; a writer killed half way has published nothing."""
    group = Group(tiny_model, 1)
    try:
        frames = group.frames()
        outputs = (outputs for kind, _, outputs, *_ in frames if kind == "step" and outputs)
        group.place(submit(1, [5, 6, 7, 8]))
        group.place(submit(2, [5, 6, 7, 8]))
        group.ring(1)
        seq_ids = [seq_id for _ in range(MAX_TOKENS) for seq_id, *_ in next(outputs)]
        assert seq_ids == [1] * MAX_TOKENS
        group.ring(1)
        assert [seq_id for seq_id, *_ in next(outputs)] == [2]
    finally:
        group.close()


def test_damaged_record_ends_the_group(tiny_model: Path) -> None:
    group = Group(tiny_model, 1)
    try:
        group.place(submit(1, [5, 6, 7, 8]))
        group.damage(RECORD_HEADER.size + 3)
        group.ring(1)
        group.wait_for_death()
    finally:
        group.close()
