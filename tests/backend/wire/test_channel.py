"""What both kinds of channel promise, tried with real memory, pipes and sockets."""

import asyncio
import os
import select
from collections.abc import Callable

import msgspec
import pytest

from backend.wire.channel import ChannelBroken, LeadEnd, WorkerEnd
from backend.wire.local.channel import create_channel
from backend.wire.local.ends import LocalLeadEnd, LocalWorkerEnd
from backend.wire.messages import Abort, Reply, Request, SeqOutput, Submit
from tests.backend.wire.tcp import pairs
from tests.backend.wire.tcp.pairs import SOME_REPLIES, SOME_REQUESTS, step, submit

Ends = Callable[[], tuple[LeadEnd, WorkerEnd]]


def local_ends() -> tuple[LeadEnd, WorkerEnd]:
    channel = create_channel()
    lead = LocalLeadEnd(5, [os.dup(fd) for fd in channel.lead_end])
    worker = LocalWorkerEnd(5, [os.dup(fd) for fd in channel.worker_end])
    channel.close()
    return lead, worker


@pytest.fixture(params=[local_ends, pairs.ends], ids=["local", "tcp"])
def ends(request: pytest.FixtureRequest) -> tuple[LeadEnd, WorkerEnd]:
    make: Ends = request.param
    return make()


class Reader:
    """A worker's loop as far as one channel is concerned."""

    def __init__(self, worker: WorkerEnd) -> None:
        self.replies: list[Reply] = []
        self.error: ChannelBroken | None = None
        self._worker = worker
        self._news = asyncio.Event()
        worker.listen(asyncio.get_running_loop(), self._read)

    def _read(self) -> None:
        try:
            self.replies += self._worker.receive()
        except ChannelBroken as error:
            self.error = error
            self._worker.close()
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(pairs.WAIT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


def received(lead: LeadEnd, count: int) -> list[Request]:
    requests: list[Request] = []
    while len(requests) < count:
        poll = select.poll()
        lead.register(poll)
        assert poll.poll(pairs.WAIT_S * 1000), "no request came"
        requests += lead.receive()
    return requests


async def test_requests_and_replies_arrive_in_order(ends: tuple[LeadEnd, WorkerEnd]) -> None:
    lead, worker = ends
    reader = Reader(worker)
    for request in SOME_REQUESTS:
        assert worker.send(request)
    assert received(lead, len(SOME_REQUESTS)) == SOME_REQUESTS
    assert list(lead.receive()) == [] and lead.epoch == 5
    for reply in SOME_REPLIES:
        lead.send(reply)
    await reader.until(lambda: len(reader.replies) == len(SOME_REPLIES))
    assert reader.replies == SOME_REPLIES
    lead.close()
    worker.close()


async def test_end_of_one_side_is_seen_by_the_other(ends: tuple[LeadEnd, WorkerEnd]) -> None:
    """What was sent before it arrives all the same."""
    lead, worker = ends
    reader = Reader(worker)
    lead.send(SOME_REPLIES[0])
    lead.close()
    await reader.until(lambda: reader.error is not None)
    assert reader.replies == SOME_REPLIES[:1]


async def test_worker_that_does_not_read_is_given_up(ends: tuple[LeadEnd, WorkerEnd]) -> None:
    """The lead never waits for it, and holds a bounded backlog."""
    lead, worker = ends
    frame = step(1, SeqOutput(1, [7], error="x" * 2_000_000))
    with pytest.raises(ChannelBroken, match="bytes wait unread"):
        for _ in range(100):
            lead.send(frame)
    assert lead.has_backlog
    lead.close()
    worker.close()


async def test_slow_worker_gets_everything_in_the_end(ends: tuple[LeadEnd, WorkerEnd]) -> None:
    lead, worker = ends
    frames = [step(n, SeqOutput(1, [7], error="x" * 600_000)) for n in range(20)]
    for frame in frames:
        lead.send(frame)
    assert lead.has_backlog
    reader = Reader(worker)
    while lead.has_backlog:
        lead.receive()
        await asyncio.sleep(0)
    await reader.until(lambda: len(reader.replies) == len(frames))
    assert reader.replies == frames
    lead.close()
    worker.close()


async def test_full_channel_takes_aborts_when_it_takes_no_submits(
    ends: tuple[LeadEnd, WorkerEnd],
) -> None:
    lead, worker = ends
    reader = Reader(worker)

    def large(seq_id: int) -> Submit:
        return msgspec.structs.replace(submit(seq_id), cache_salt="x" * 200_000)

    num_sent = 0
    while worker.send(large(num_sent)):
        num_sent += 1
    assert not worker.send(large(num_sent))
    assert worker.send(Abort(0), urgent=True)
    requests: list[Request] = []
    while len(requests) < num_sent + 1:
        requests += lead.receive()
        await asyncio.sleep(0)
    assert requests[-1] == Abort(0)
    assert requests[:-1] == [large(number) for number in range(num_sent)]
    assert worker.send(large(num_sent)), "there is room again"
    assert reader.error is None
    lead.close()
    worker.close()


async def test_request_that_could_never_fit_is_refused(ends: tuple[LeadEnd, WorkerEnd]) -> None:
    lead, worker = ends
    with pytest.raises(ValueError, match="does not fit"):
        worker.send(submit(1, 5 << 20))
    assert worker.send(submit(2))
    assert received(lead, 1) == [submit(2)]
    lead.close()
    worker.close()


async def test_request_after_the_leads_end_is_lost_with_the_channel(
    ends: tuple[LeadEnd, WorkerEnd],
) -> None:
    lead, worker = ends
    reader = Reader(worker)
    lead.close()
    assert all([worker.send(submit(n)) for n in range(3)])
    await reader.until(lambda: reader.error is not None)
