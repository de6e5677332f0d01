"""A link between ranks of a group on two machines: frames of one authenticated stream.

A thread of its own sends and receives, so that a stream flows while its rank computes.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Callable

from backend.wire.channel import ChannelBroken
from backend.wire.link import Payload
from backend.wire.local.ring import drain_eventfd
from backend.wire.tcp.frames import FrameParser, FrameQueue, Kind
from backend.wire.tcp.stream import Stream

# Steps that a later stage has not taken yet: more than stages ever leave each other.
MAX_UNSENT_BYTES = 1 << 30
BEAT_MS = 1000


class TcpLink:
    """See Link in backend/wire/link.py. Owns its stream."""

    def __init__(self, stream: Stream, on_wait: Callable[[], None] = lambda: None) -> None:
        """on_wait: called every second while this rank waits."""
        self._stream = stream
        self._on_wait = on_wait
        self._queue = FrameQueue(MAX_UNSENT_BYTES)
        self._parser = FrameParser()
        self._received: deque[Payload] = deque()
        self._fault: ChannelBroken | None = None
        self._lock = threading.Lock()
        flags = os.EFD_CLOEXEC | os.EFD_NONBLOCK
        self._bell, self._wake = os.eventfd(0, flags), os.eventfd(0, flags)
        self._is_closed = False
        self._thread = threading.Thread(target=self._carry, name="rank link", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._bell

    def send(self, payload: Payload) -> None:
        """See Link. Raises ChannelBroken where the other side is gone."""
        data = bytes(payload)
        with self._lock:
            if self._fault is not None:
                raise self._fault
            if not self._queue.has_room(len(data)):
                raise ChannelBroken("the other side does not read")
            self._queue.put(Kind.MESSAGE, data)
        os.eventfd_write(self._wake, 1)

    def receive(self) -> Payload:
        """See Link. Raises ChannelBroken."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        while True:
            with self._lock:
                if self._received:
                    return self._received.popleft()
                if self._fault is not None:
                    raise self._fault
                drain_eventfd(self._bell)
            while not poll.poll(BEAT_MS):
                self._on_wait()

    def read(self) -> list[Payload]:
        """See Link. Raises ChannelBroken once all that came before has been read."""
        with self._lock:
            drain_eventfd(self._bell)
            received = list(self._received)
            self._received.clear()
            if self._fault is not None:
                if not received:
                    raise self._fault
                os.eventfd_write(self._bell, 1)
        return received

    def close(self) -> None:
        """Release it; what was not sent yet is lost."""
        self._is_closed = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._stream.close()
        os.close(self._bell)
        os.close(self._wake)

    def _carry(self) -> None:
        try:
            while not self._is_closed:
                self._turn()
        except ChannelBroken as error:
            with self._lock:
                self._fault = error
                os.eventfd_write(self._bell, 1)

    def _turn(self) -> None:
        """Wait until something can be done, and do it."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._stream, select.POLLIN | (select.POLLOUT if self._queue else 0))
        poll.poll()
        drain_eventfd(self._wake)
        while self._queue:
            with self._lock:
                head = self._queue.head()
            sent = self._stream.send(head)
            if sent == 0:
                break
            with self._lock:
                self._queue.drop(sent)
        for piece in self._stream.receive():
            frames = [payload for _, payload in self._parser.feed(piece)]
            if frames:
                with self._lock:
                    self._received += frames
                    os.eventfd_write(self._bell, 1)
