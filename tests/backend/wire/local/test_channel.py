"""A channel's two ends, as each side is sent them."""

import os

from backend.wire.local.channel import REQUEST_RING_BYTES, ChannelEnd, create_channel
from backend.wire.local.pipe import PipeReader, PipeWriter
from backend.wire.local.ring import RingReader, RingWriter


def test_channel_carries_records_down_and_frames_up() -> None:
    channel = create_channel()
    worker = ChannelEnd(*map(os.dup, channel.worker_end))
    lead = ChannelEnd(*map(os.dup, channel.lead_end))
    channel.close()
    assert os.fstat(worker.memory).st_size == REQUEST_RING_BYTES
    writer, reader = RingWriter(worker.ring, epoch=3), RingReader(lead.ring, epoch=3)
    assert writer.write(b"request") and list(reader.read()) == [b"request"]
    sender, receiver = PipeWriter(lead.pipe), PipeReader(worker.pipe)
    sender.write(b"tokens")
    assert receiver.read() == [b"tokens"]
    for end in (writer, reader, sender, receiver):
        end.close()
