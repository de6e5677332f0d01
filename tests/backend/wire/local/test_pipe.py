"""Frames over a pipe."""

import os
import struct
import zlib

import pytest

from backend.wire.local.pipe import (
    HEADER,
    MAX_BACKLOG_BYTES,
    MAX_FRAME_BYTES,
    PIPE_BYTES,
    PipeBroken,
    PipeReader,
    PipeWriter,
    create_pipe,
)


def make_pipe() -> tuple[PipeReader, PipeWriter]:
    read_fd, write_fd = create_pipe()
    return PipeReader(read_fd), PipeWriter(write_fd)


def test_pipe_delivers_frames_whole_and_in_order() -> None:
    reader, writer = make_pipe()
    frames = [b"", b"a", b"b" * 70_000]
    for frame in frames:
        writer.write(frame)
    got: list[bytes] = []
    while len(got) < len(frames):
        got += reader.read()
    assert got == frames
    assert reader.read() == []


def test_pipe_writer_never_blocks_and_loses_nothing() -> None:
    reader, writer = make_pipe()
    frames = [bytes([i]) * (PIPE_BYTES // 4) for i in range(12)]
    for frame in frames:
        writer.write(frame)
    assert writer.has_backlog
    got: list[bytes] = []
    while len(got) < len(frames):
        got += reader.read()
        writer.flush()
    assert got == frames and not writer.has_backlog


def test_pipe_writer_gives_up_a_reader_that_never_reads() -> None:
    _, writer = make_pipe()
    with pytest.raises(PipeBroken, match="wait unread"):
        for _ in range(MAX_BACKLOG_BYTES // PIPE_BYTES + 3):
            writer.write(b"x" * PIPE_BYTES)


def test_pipe_shows_the_death_of_either_side() -> None:
    reader, writer = make_pipe()
    writer.close()
    with pytest.raises(PipeBroken, match="the writer is gone"):
        reader.read()
    reader, writer = make_pipe()
    reader.close()
    with pytest.raises(PipeBroken, match="the reader is gone"):
        writer.write(b"x")


@pytest.mark.parametrize(
    "junk",
    [HEADER.pack(MAX_FRAME_BYTES + 1, 0), HEADER.pack(4, 0) + b"junk"],
    ids=["too long", "wrong checksum"],
)
def test_pipe_reader_refuses_a_malformed_frame(junk: bytes) -> None:
    read_fd, write_fd = create_pipe()
    os.write(write_fd, junk)
    with pytest.raises(PipeBroken):
        PipeReader(read_fd).read()


def test_pipe_lays_a_frame_out_as_documented() -> None:
    read_fd, write_fd = create_pipe()
    PipeWriter(write_fd).write(b"tokens")
    assert os.read(read_fd, 100) == struct.pack("<II", 6, zlib.crc32(b"tokens")) + b"tokens"
