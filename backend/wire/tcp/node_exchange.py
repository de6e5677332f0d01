"""An exchange between ranks of a group on several machines: each sends a message to each, at once.

    message  length u32, crc32 u32, payload `length` bytes

All know what is exchanged, so a length that was not expected is a rank that runs another plan. The
checksum is that of frames (frames.py). Whoever calls sends and receives itself, without a thread:
a sum is waited for in any case, and passing it on to a thread costs more than a short one takes.
"""

import select
import struct
from collections.abc import Callable, Mapping, Sequence

from backend.wire.channel import ChannelBroken
from backend.wire.tcp.frames import checksum
from backend.wire.tcp.stream import Stream

HEADER = struct.Struct("<II")
BEAT_MS = 1000
_KIND = 0


class NodeExchange:
    """One rank's streams to some others. Owns them."""

    def __init__(
        self, streams: Mapping[int, Stream], on_wait: Callable[[], None] = lambda: None
    ) -> None:
        """streams: by a number that each of the others goes by. on_wait: called every second
        while this rank waits."""
        self._peers = {number: _Peer(stream) for number, stream in streams.items()}
        self._on_wait = on_wait

    def exchange(self, out: Mapping[int, memoryview], into: Mapping[int, memoryview]) -> None:
        """Send each of the others a message, and fill `into` with theirs.

        Raises ChannelBroken where one is gone, or sends what was not expected.
        """
        for number, peer in self._peers.items():
            peer.begin(out[number], into[number])
        waiting = list(self._peers.values())
        while waiting := [peer for peer in waiting if not peer.advance()]:
            poll = select.poll()
            for peer in waiting:
                poll.register(peer.stream, peer.awaited)
            while not poll.poll(BEAT_MS):
                self._on_wait()

    def close(self) -> None:
        for peer in self._peers.values():
            peer.stream.close()


class _Peer:
    """What is still to be sent to one of the others, and to come from it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._number = 0  # of messages before this one, the same in both directions
        self._header = memoryview(bytearray(HEADER.size))
        self._payload = memoryview(b"")
        self._unsent: list[memoryview] = []
        self._missing: list[memoryview] = []

    def begin(self, out: memoryview, into: memoryview) -> None:
        head = HEADER.pack(len(out), checksum(_KIND, self._number, out))
        self._payload = into
        self._unsent = [memoryview(head), out]
        self._missing = [self._header, into]

    @property
    def awaited(self) -> int:
        """What poll() is to wait for."""
        sends = select.POLLOUT if self._unsent else 0
        return sends | (select.POLLIN if self._missing else 0)

    def advance(self) -> bool:
        """Send and receive what can be now; return whether that was all."""
        while self._unsent and (count := self.stream.send_parts(self._unsent)):
            self._unsent = _after(self._unsent, count)
        while self._missing and (count := self.stream.receive_parts(self._missing)):
            had_header = len(self._missing) == 1
            self._missing = _after(self._missing, count)
            if not had_header and len(self._missing) < 2:
                self._check_length()
            if not self._missing:
                self._check()
        return not self._unsent and not self._missing

    def _check_length(self) -> None:
        """At once: what is shorter than was due would be waited for, for ever."""
        length, _ = HEADER.unpack(self._header)
        if length != len(self._payload):
            raise ChannelBroken(
                f"a rank of the group sent {length} bytes where {len(self._payload)} were due"
            )

    def _check(self) -> None:
        _, crc = HEADER.unpack(self._header)
        if checksum(_KIND, self._number, self._payload) != crc:
            raise ChannelBroken(f"message {self._number} of a rank of the group is damaged")
        self._number += 1


def _after(parts: Sequence[memoryview], count: int) -> list[memoryview]:
    """Return what is left of parts after so many bytes."""
    for place, part in enumerate(parts):
        if count < len(part):
            return [part[count:], *parts[place + 1 :]]
        count -= len(part)
    return []
