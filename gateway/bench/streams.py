"""Many streams at once, watched for a while: events, when each came, and what the server spent.

As cheap as can be, since it shares the cores with what it measures: nothing is parsed. Called by
gateway/bench/gateway.py.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from gateway.bench.dialects import SERVER_SENT, EventForm
from gateway.bench.streamed_request import StreamedRequest, Target, request_bytes
from gateway.procfs import exact_cpu_seconds

SETTLE_SECONDS = 0.5
FIRST_EVENT_SECONDS = 10.0
# What marks the last event of a stream is shorter, in any dialect.
_MAX_MARK = 64


@dataclass(slots=True)
class Window:
    """What happened while all streams ran. times_s: of every event, CLOCK_MONOTONIC."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    times_s: list[float] = field(default_factory=list)

    @property
    def cpu_us_per_event(self) -> float:
        return 1e6 * self.cpu_seconds / len(self.times_s)


class EventTimes:
    """Notes when events come; fed by a StreamedRequest."""

    def __init__(self, form: EventForm) -> None:
        self.times_s: list[float] = []
        self._form = form
        self._tail = b""
        self._is_last = False  # the last event has begun

    def feed(self, data: bytes) -> bool:
        """Take the next bytes of the stream; True once its last event has come."""
        now_s = time.monotonic()
        end = self._form.end
        joined = self._tail[1 - len(end) :] + data
        self.times_s += [now_s] * joined.count(end)
        joined = self._tail + data
        self._is_last = self._is_last or self._form.last.search(joined) is not None
        self._tail = joined[-_MAX_MARK:]
        return self._is_last and joined.endswith(end.lstrip(b"}"))


async def watch_streams(
    target: Target,
    pid: int,
    path: str,
    bodies: Sequence[bytes],
    seconds: float,
    form: EventForm = SERVER_SENT,
    *,
    head_s: float = 0.0,
) -> Window:
    """Open a stream for each body, and watch them for some seconds of their middle.

    head_s: how long what an answer begins with takes, which is none of its middle.
    """
    streams = [EventTimes(form) for _ in bodies]
    tasks = [
        asyncio.create_task(
            StreamedRequest(request_bytes(target, "POST", path, body), stream.feed).perform(
                target, 600
            )
        )
        for body, stream in zip(bodies, streams, strict=True)
    ]
    try:
        async with asyncio.timeout(FIRST_EVENT_SECONDS):
            while not all(stream.times_s for stream in streams):
                await asyncio.sleep(0.05)
        await asyncio.sleep(SETTLE_SECONDS + head_s)
        for stream in streams:
            stream.times_s.clear()
        begun_s, cpu_s = time.monotonic(), exact_cpu_seconds(pid)
        await asyncio.sleep(seconds)
        window = Window(time.monotonic() - begun_s, exact_cpu_seconds(pid) - cpu_s)
        window.times_s = sorted(time_s for stream in streams for time_s in stream.times_s)
        return window
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_streams(
    target: Target, pid: int, path: str, bodies: Sequence[bytes], form: EventForm = SERVER_SENT
) -> Window:
    """Open a stream for each body and take all of them to their end."""
    streams = [EventTimes(form) for _ in bodies]
    begun_s, cpu_s = time.monotonic(), exact_cpu_seconds(pid)
    await asyncio.gather(
        *(
            StreamedRequest(request_bytes(target, "POST", path, body), stream.feed).perform(
                target, 600
            )
            for body, stream in zip(bodies, streams, strict=True)
        )
    )
    window = Window(time.monotonic() - begun_s, exact_cpu_seconds(pid) - cpu_s)
    window.times_s = [time_s for stream in streams for time_s in stream.times_s]
    return window


@dataclass(slots=True)
class Burst:
    """Short requests, one after the other on each of some connections."""

    num_requests: int
    seconds: float
    cpu_seconds: float


async def repeat_requests(
    target: Target, pid: int, request: bytes, num_connections: int, seconds: float
) -> Burst:
    """Send the same request over and over, and count the answers. They must be 200."""
    loop = asyncio.get_running_loop()
    pairs = [
        await loop.create_connection(lambda: _Repeater(request), target.host, target.port)
        for _ in range(num_connections)
    ]
    await asyncio.sleep(SETTLE_SECONDS)
    before = sum(repeater.num_answers for _, repeater in pairs)
    begun_s, cpu_s = time.monotonic(), exact_cpu_seconds(pid)
    await asyncio.sleep(seconds)
    count = sum(repeater.num_answers for _, repeater in pairs) - before
    burst = Burst(count, time.monotonic() - begun_s, exact_cpu_seconds(pid) - cpu_s)
    for transport, _ in pairs:
        transport.abort()
    return burst


class _Repeater(asyncio.Protocol):
    """Sends a request, waits for its answer, and sends it again."""

    def __init__(self, request: bytes) -> None:
        self.num_answers = 0
        self._request = request
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, end, body = self._rest.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"answered {self._rest[:300]!r}")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._rest = b""
            self.num_answers += 1
            self._transport.write(self._request)


def lateness_ms(times_s: Sequence[float], sent_s: Sequence[float]) -> list[float]:
    """Return how long after the last sending before it each event came, in milliseconds."""
    late: list[float] = []
    position = 0
    for time_s in times_s:
        while position + 1 < len(sent_s) and sent_s[position + 1] <= time_s:
            position += 1
        late.append(1000 * (time_s - sent_s[position]))
    return late
