import asyncio
from collections.abc import Callable

import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway.answers.chunk_writer import EXTENSION
from gateway.answers.sse import DONE, PING, ChunkTemplate, EventQueue, EventStream, event
from gateway.schema.completions import Completion, CompletionChoice
from gateway.service import Limits
from tests.gateway.fakes import Exchange, advance, manual_clock, settle


class Stream:
    """A stream under way, with the queue that feeds it."""

    def __init__(self, limits: Limits | None = None, outlet: "Outlet | None" = None) -> None:
        self.queue = EventQueue()
        self.num_closed = 0
        response = EventStream(self.queue, limits or Limits(), self._close)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if outlet is not None:
                scope["extensions"] = {EXTENSION: outlet}
            await response(scope, receive, send)

        self.exchange = Exchange(app, "POST", "/", headers=())
        self.exchange.incoming.get_nowait()  # the body: read before a response begins

    def _close(self) -> None:
        self.num_closed += 1


def chunk_of(text: str, model: str = "m") -> Completion:
    return Completion(
        id="cmpl-1",
        created=1,
        model=model,
        system_fingerprint="fp",
        choices=[CompletionChoice(text, 3)],
    )


@pytest.mark.parametrize("text", ["", "plain", 'quo"te\\', "new\nline\r\n\n", "é😀\u2028", "\x00"])
@pytest.mark.parametrize("model", ["m", '","text":"" \\'])
def test_template_gives_what_encoding_the_whole_chunk_gives(text: str, model: str) -> None:
    template = ChunkTemplate(chunk_of("", model), "text")
    framed = template.event(text)
    assert framed == event(msgspec.json.encode(chunk_of(text, model)))
    assert framed.count(b"\n") == 2
    assert b"\r" not in framed


async def test_head_names_the_type_and_forbids_buffering() -> None:
    stream = Stream()
    stream.queue.end()
    await stream.exchange.finished()
    headers = stream.exchange.headers
    assert stream.exchange.status == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


async def test_headers_go_out_before_the_first_event() -> None:
    stream = Stream()
    await settle()
    assert [m["type"] for m in stream.exchange.messages] == ["http.response.start"]
    stream.queue.end()
    await stream.exchange.finished()


async def test_what_piled_up_during_a_write_goes_out_in_one() -> None:
    stream = Stream()
    await settle()
    stream.exchange.can_send.clear()
    stream.queue.put(event(b"1"))
    await settle()
    for data in (b"2", b"3", b"4"):
        stream.queue.put(event(data))
        await settle()
    stream.exchange.can_send.set()
    stream.queue.end()
    await stream.exchange.finished()
    piled = b"data: 2\n\ndata: 3\n\ndata: 4\n\n" + DONE
    assert stream.exchange.bodies == [b"data: 1\n\n", piled, b""]
    assert stream.exchange.is_complete
    assert stream.num_closed == 1


async def test_no_event_is_lost_when_more_pile_up_than_one_write_takes() -> None:
    stream = Stream()
    for i in range(1000):
        stream.queue.put(event(b"%d" % i))
    stream.queue.end()
    await stream.exchange.finished()
    assert stream.exchange.events == [*(b"%d" % i for i in range(1000)), b"[DONE]"]


async def test_failure_is_an_event_and_then_the_connection_breaks() -> None:
    stream = Stream()
    stream.queue.put(event(b"1"))
    stream.queue.fail(event(b'{"error":{}}'))
    await stream.exchange.finished()
    assert stream.exchange.events == [b"1", b'{"error":{}}']
    assert not stream.exchange.is_complete
    assert stream.num_closed == 1


@pytest.mark.parametrize("is_blocked", [False, True])
async def test_client_that_leaves_ends_the_stream_at_once(is_blocked: bool) -> None:
    stream = Stream()
    await settle()
    if is_blocked:
        stream.exchange.can_send.clear()
    stream.queue.put(event(b"1"))
    await settle()
    stream.exchange.leave()
    await settle()
    assert stream.exchange.task.done()
    assert stream.num_closed == 1


async def test_server_that_reports_the_lost_client_ends_the_stream() -> None:
    closed: list[bool] = []
    stream = EventStream(EventQueue(), Limits(), lambda: closed.append(True))

    async def send(message: Message) -> None:
        raise ConnectionResetError

    await stream({"type": "http"}, _never, send)
    assert closed == [True]


async def test_cancelled_stream_closes_and_stays_cancelled() -> None:
    stream = Stream()
    await settle()
    stream.exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream.exchange.finished()
    assert stream.num_closed == 1


async def test_nothing_stays_behind_when_a_stream_ends() -> None:
    tasks = asyncio.all_tasks()
    for end in (EventQueue.end, lambda queue: EventQueue.fail(queue, b"{}")):
        stream = Stream()
        await settle()
        end(stream.queue)
        await stream.exchange.finished()
        await settle()
        assert asyncio.all_tasks() == tasks


@manual_clock
async def test_ping_goes_out_only_after_silence() -> None:
    stream = Stream(Limits(ping_interval_s=15))
    await settle()
    await advance(14)
    assert stream.exchange.body == b""
    await advance(1)
    assert stream.exchange.bodies == [PING]
    stream.queue.put(event(b"1"))
    await settle()
    await advance(14)  # 29 s since the start, 14 since the event
    assert stream.exchange.bodies == [PING, b"data: 1\n\n"]
    await advance(1)
    assert stream.exchange.bodies == [PING, b"data: 1\n\n", PING]
    stream.queue.end()
    await stream.exchange.finished()


@manual_clock
async def test_busy_stream_is_never_pinged() -> None:
    stream = Stream(Limits(ping_interval_s=15))
    for _ in range(10):
        stream.queue.put(event(b"1"))
        await advance(10)
    stream.queue.end()
    await stream.exchange.finished()
    assert PING not in stream.exchange.body


async def test_ping_gives_way_to_an_event_of_the_same_moment() -> None:
    stream = Stream()
    await settle()
    stream.queue.ping()
    stream.queue.put(event(b"1"))
    await settle()
    assert stream.exchange.bodies == [b"data: 1\n\n"]
    stream.queue.end()
    await stream.exchange.finished()


@manual_clock
async def test_timer_ends_with_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    stream = Stream()
    stream.queue.end()
    await stream.exchange.finished()
    made: list[str] = []
    monkeypatch.setattr(loop, "call_at", _recorded(made, "call_at", loop.call_at))
    await advance(100)
    assert made == []


@manual_clock
async def test_pings_can_be_off() -> None:
    stream = Stream(Limits(ping_interval_s=0, send_timeout_s=30))
    await settle()
    for _ in range(20):
        await advance(30)
    assert stream.exchange.body == b""
    stream.queue.end()
    await stream.exchange.finished()


@pytest.mark.parametrize("ping_interval_s", [0, 15, 100])
@manual_clock
async def test_reader_that_takes_nothing_is_given_up_at_the_timeout(
    ping_interval_s: float,
) -> None:
    stream = Stream(Limits(ping_interval_s=ping_interval_s, send_timeout_s=30))
    await settle()
    await advance(7)
    stream.exchange.can_send.clear()
    stream.queue.put(event(b"1"))
    await settle()
    for _ in range(29):
        await advance(1)
    assert not stream.exchange.task.done()
    for _ in range(2):
        await advance(1)
    assert stream.exchange.task.done()
    assert not stream.exchange.is_complete
    assert stream.num_closed == 1


@manual_clock
async def test_slow_reader_that_takes_something_is_kept() -> None:
    stream = Stream(Limits(send_timeout_s=30))
    await settle()
    for i in range(5):
        stream.exchange.can_send.clear()
        stream.queue.put(event(b"%d" % i))
        await settle()
        await advance(29)
        stream.exchange.can_send.set()
        await settle()
    stream.queue.end()
    await stream.exchange.finished()
    assert stream.exchange.is_complete


async def test_token_costs_no_task_and_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """sse-starlette's own __call__ polls for shutdown and sets a deadline on every write."""
    loop = asyncio.get_running_loop()
    stream = Stream()
    await settle()
    made: list[str] = []
    for name in ("create_task", "call_at", "call_later"):
        monkeypatch.setattr(loop, name, _recorded(made, name, getattr(loop, name)))
    for _ in range(50):
        stream.queue.put(event(b"1"))
        await settle()
    assert made == []
    stream.queue.end()
    await stream.exchange.finished()


class Outlet:
    """Takes pieces while it has room."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.has_room = True

    def write(self, body: bytes) -> bool:
        if self.has_room:
            self.pieces.append(body)
        return self.has_room


async def test_outlet_takes_what_piled_up_in_a_turn_and_wakes_nobody() -> None:
    queue, outlet = EventQueue(), Outlet()
    queue.use(outlet.write)
    reader = asyncio.ensure_future(anext(queue))
    await settle()
    for data in (b"1", b"2"):
        queue.put(event(data))
    await settle()
    queue.put(event(b"3"))
    await settle()
    assert outlet.pieces == [event(b"1") + event(b"2"), event(b"3")]
    assert not reader.done()
    outlet.has_room = False
    queue.put(event(b"4"))
    queue.put(event(b"5"))
    assert await reader == event(b"4") + event(b"5")
    outlet.has_room = True  # but the task has not come back from its write
    queue.put(event(b"6"))
    await settle()
    assert len(outlet.pieces) == 2
    queue.end()
    assert b"".join([piece async for piece in queue]) == event(b"6") + DONE


@manual_clock
async def test_ping_still_goes_out_after_silence_behind_an_outlet() -> None:
    stream = Stream(Limits(ping_interval_s=15, send_timeout_s=30), Outlet())
    await settle()
    await advance(10)
    stream.queue.put(event(b"1"))
    await settle()
    await advance(10)
    assert stream.exchange.body == b""
    await advance(5)
    assert stream.exchange.body == PING
    stream.queue.end()
    await stream.exchange.finished()


def _recorded(made: list[str], name: str, wrapped: Callable[..., object]) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        made.append(name)
        return wrapped(*args, **kwargs)

    return call


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError
