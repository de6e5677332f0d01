"""The stream between the supervisor and an agent, which has been authenticated: the frames of
backend/wire/tcp, encrypted or not, in an event loop.
"""

import asyncio
from collections import deque

from backend.wire.channel import ChannelBroken
from backend.wire.tcp.frames import FrameParser, FrameQueue, Kind
from backend.wire.tcp.stream import Stream
from gateway.nodes.silence import Silence

# A stack of every thread of a group is the longest that is said.
MAX_FRAME_BYTES = 4 << 20
# A supervisor so far behind, or an agent, is as good as gone.
MAX_UNSENT_BYTES = 16 << 20


class StreamLost(Exception):
    """The other side is gone, silent, or sent what is not a frame. The message says which."""


class StreamSilent(StreamLost):
    """Nothing has come in time; something may yet."""


class FrameStream:
    """One side of a stream. Owns it, and is to be closed in the loop that it was made in."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._parser = FrameParser(MAX_FRAME_BYTES)
        self._queue = FrameQueue(MAX_UNSENT_BYTES)
        self._received: deque[bytes] = deque()
        self._fault = ""
        self._has_news = asyncio.Event()
        self._is_closed = False
        self._is_writing = False  # the loop tells when more can be sent
        self._has_sent_all = asyncio.Event()
        self._has_sent_all.set()

    @property
    def own_host(self) -> str:
        """This side's address, as the other reaches it."""
        return self._stream.own_host

    def send(self, payload: bytes) -> None:
        """Send a frame; one that cannot be sent is lost, and so is the stream."""
        if self._is_closed or self._fault:
            return
        if not self._queue.has_room(len(payload)):
            self._note(f"the other side is {self._queue.num_bytes} bytes behind")
            return
        self._queue.put(Kind.MESSAGE, payload)
        if not self._is_writing:
            self._write()

    async def receive(self, timeout_s: float) -> bytes:
        """Return the next frame.

        Raises StreamLost, and StreamSilent after `timeout_s`; it may be called again then. Not for
        two callers at a time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._received:
                    self._read()
                    if not self._received:
                        await self._until_readable()
        except TimeoutError as error:
            raise StreamSilent(f"silent for {timeout_s:g} s") from error
        return self._received.popleft()

    async def receive_from(self, silence: Silence) -> bytes:
        """Return the next frame, which may come as long as it is not overdue. Raises StreamLost."""
        while left_s := silence.left_s:
            try:
                payload = await self.receive(left_s)
            except StreamSilent:
                continue  # was it we who were stopped?
            silence.heard()
            return payload
        raise StreamSilent(f"silent for {silence.limit_s:g} s")

    async def flush(self, timeout_s: float) -> None:
        """Wait until what was sent has left, or the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._has_sent_all.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Close without sending what is left; who waits in receive() hears that it is lost."""
        if self._is_closed:
            return
        self._note("closed here")
        self._is_closed = True
        self._stream.close()

    def _read(self) -> None:
        """Take what has arrived. Raises StreamLost once all before a fault has been given out."""
        if self._fault:
            raise StreamLost(self._fault)
        try:
            for piece in self._stream.receive():
                for kind, payload in self._parser.feed(piece):
                    if kind is Kind.GOODBYE:
                        raise ChannelBroken("the other side has hung up")
                    self._received.append(payload)
        except ChannelBroken as error:
            self._note(str(error))
            if not self._received:
                raise StreamLost(self._fault) from error

    async def _until_readable(self) -> None:
        self._has_news.clear()
        self._loop.add_reader(self._stream.fileno(), self._has_news.set)
        try:
            await self._has_news.wait()
        finally:
            if not self._is_closed:
                self._loop.remove_reader(self._stream.fileno())

    def _write(self) -> None:
        """Send what is taken, and have the loop tell when there is room for the rest."""
        try:
            while self._queue and (num_sent := self._stream.send(self._queue.head())):
                self._queue.drop(num_sent)
        except ChannelBroken as error:
            self._note(str(error))
            return
        self._tell_when_writable(bool(self._queue))

    def _tell_when_writable(self, is_wanted: bool) -> None:
        if is_wanted == self._is_writing:
            return
        self._is_writing = is_wanted
        if is_wanted:
            self._has_sent_all.clear()
            self._loop.add_writer(self._stream.fileno(), self._write)
        else:
            self._has_sent_all.set()
            self._loop.remove_writer(self._stream.fileno())

    def _note(self, fault: str) -> None:
        """The stream is lost; the first fault is the one that counts."""
        self._fault = self._fault or fault
        self._tell_when_writable(False)
        self._loop.remove_reader(self._stream.fileno())
        self._has_news.set()
