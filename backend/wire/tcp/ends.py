"""A channel's ends on two machines: both directions in one stream of frames.

What is no message ends the channel, never the group: the other side is not this machine's memory.
"""

import select
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Sequence

import msgspec

from backend.wire import messages
from backend.wire.channel import ChannelBroken
from backend.wire.messages import Reply, Request
from backend.wire.tcp.frames import HEADER, FrameParser, FrameQueue, Kind
from backend.wire.tcp.stream import Stream

# As the ring's on one machine, and the pipe's: see local/channel.py and local/pipe.py.
REQUEST_BYTES = 4 << 20
MAX_BACKLOG_BYTES = 64 << 20
# Aborts must get through when submits do not.
RESERVED_BYTES = REQUEST_BYTES // 16


class Goodbye(ChannelBroken):
    """The other side has closed the channel of its own will."""


class TcpLeadEnd:
    """The lead's: see LeadEnd in backend/wire/channel.py. Owns its stream."""

    def __init__(self, epoch: int, stream: Stream) -> None:
        self.epoch = epoch
        self._stream = stream
        self._parser = FrameParser(REQUEST_BYTES)
        self._queue = FrameQueue(MAX_BACKLOG_BYTES)

    @property
    def has_backlog(self) -> bool:
        return bool(self._queue)

    def register(self, poll: select.poll) -> None:
        poll.register(self._stream, select.POLLIN | (select.POLLOUT if self._queue else 0))

    def receive(self) -> Sequence[Request]:
        _flush(self._stream, self._queue)
        try:
            return [
                messages.decode_request(payload)
                for payload in _payloads(self._stream, self._parser)
            ]
        except msgspec.MsgspecError as error:
            raise ChannelBroken(f"a frame is not a request: {error}") from error

    def send(self, reply: Reply) -> None:
        payload = messages.encode(reply)
        if not self._queue.has_room(len(payload)):
            raise ChannelBroken(f"{self._queue.num_bytes} bytes wait unread")
        self._queue.put(Kind.MESSAGE, payload)
        _flush(self._stream, self._queue)

    def close(self) -> None:
        """Say goodbye, if that can be said at once: the worker knows then that this is no death."""
        _say_goodbye(self._stream, self._queue)
        self._stream.close()


class TcpWorkerEnd:
    """The worker's: see WorkerEnd in backend/wire/channel.py. Owns its stream.

    What the connection does not take waits here, in as much room as a ring has.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._parser = FrameParser()
        self._queue = FrameQueue(REQUEST_BYTES)
        self._loop: AbstractEventLoop | None = None
        self._on_news: Callable[[], None] | None = None
        self._is_writing = False  # the loop tells when more can be sent
        self._fault: ChannelBroken | None = None
        self._is_read_out = False

    def listen(self, loop: AbstractEventLoop, on_news: Callable[[], None]) -> None:
        self._loop, self._on_news = loop, on_news
        loop.add_reader(self._stream.fileno(), on_news)

    def receive(self) -> list[Reply]:
        try:
            replies = self._take_replies()
        except msgspec.MsgspecError as error:
            raise ChannelBroken(f"a frame is not a reply: {error}") from error
        if self._fault is not None and not replies:
            raise self._fault
        return replies

    def _take_replies(self) -> list[Reply]:
        """Return what came before a fault, if there is one: it need not be computed again."""
        replies: list[Reply] = []
        if self._is_read_out:
            return replies
        try:
            for payload in _payloads(self._stream, self._parser):
                replies.append(messages.decode_reply(payload))
        except ChannelBroken as error:
            self._is_read_out = True
            self._note(error)
        return replies

    def send(self, request: Request, *, urgent: bool = False) -> bool:
        payload = messages.encode(request)
        spared_bytes = 0 if urgent else RESERVED_BYTES
        if len(payload) + HEADER.size > REQUEST_BYTES - spared_bytes:
            room = REQUEST_BYTES - spared_bytes
            raise ValueError(f"a request of {len(payload)} bytes does not fit a frame of {room}")
        if not self._queue.has_room(len(payload), spared_bytes=spared_bytes):
            return False
        self._queue.put(Kind.MESSAGE, payload)
        if not self._is_writing:
            self._write()
        return True

    def _write(self) -> None:
        """Send what is taken, and have the loop tell when there is room for the rest."""
        try:
            _flush(self._stream, self._queue)
        except ChannelBroken as error:
            self._note(error)
        is_writing = bool(self._queue) and self._fault is None
        if self._loop is None or is_writing == self._is_writing:
            return
        self._is_writing = is_writing
        if is_writing:
            self._loop.add_writer(self._stream.fileno(), self._write)
        else:
            self._loop.remove_writer(self._stream.fileno())

    def _note(self, fault: ChannelBroken) -> None:
        """Have receive() tell of a fault; the first is the one that counts."""
        self._fault = self._fault or fault
        if self._loop is not None:
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        if self._loop is not None and self._on_news is not None:
            self._on_news()

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._stream.fileno())
            if self._is_writing:
                self._loop.remove_writer(self._stream.fileno())
            self._loop = None
        _say_goodbye(self._stream, self._queue)
        self._stream.close()


def _flush(stream: Stream, queue: FrameQueue) -> None:
    """Send as much as the stream takes. Raises ChannelBroken."""
    while queue:
        num_sent = stream.send(queue.head())
        if num_sent == 0:
            return
        queue.drop(num_sent)


def _payloads(stream: Stream, parser: FrameParser) -> Iterator[bytes]:
    """Yield the messages that have arrived. Raises ChannelBroken after the last good one."""
    for piece in stream.receive():
        for kind, payload in parser.feed(piece):
            if kind is Kind.GOODBYE:
                raise Goodbye("the other side has closed the channel")
            yield payload


def _say_goodbye(stream: Stream, queue: FrameQueue) -> None:
    if queue:
        return  # it would come in the middle of a frame, or after what nobody reads
    queue.put(Kind.GOODBYE, b"")
    try:
        _flush(stream, queue)
    except ChannelBroken:
        pass  # there is nobody to tell
