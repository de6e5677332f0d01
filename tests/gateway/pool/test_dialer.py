"""Channels that a worker makes to leads which listen in this process."""

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from backend.wire.channel import WorkerEnd
from backend.wire.control import Dial
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.sockets import create_listener
from gateway.pool.dialer import Dialer
from tests.backend.wire.tcp.pairs import admitted

SECRET = bytes(32)


class Connected:
    """What a dialer tells, in the order in which it does."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, int, WorkerEnd]] = []
        self.failures: list[tuple[int, int]] = []
        self._news = asyncio.Event()
        self.dialer = Dialer(self._connect, self._fail, retry_s=0.0)

    def _connect(self, replica: int, epoch: int, end: WorkerEnd) -> None:
        self.ends.append((replica, epoch, end))
        self._news.set()

    def _fail(self, replica: int, epoch: int) -> None:
        self.failures.append((replica, epoch))
        self._news.set()

    async def news(self) -> None:
        async with asyncio.timeout(60):
            await self._news.wait()
        self._news.clear()

    def close(self) -> None:
        for _, _, end in self.ends:
            end.close()


@pytest.fixture
def lead() -> Iterator[tuple[Acceptor, LeadAddress]]:
    listener = create_listener("127.0.0.1")
    host, port = listener.getsockname()
    acceptor = Acceptor(listener, SECRET, 7)
    yield acceptor, LeadAddress(host, port, SECRET, 7)
    acceptor.close()


def dial(address: LeadAddress, epoch: int) -> Dial:
    return Dial(0, 1, 4, epoch, address)


async def test_worker_connects_with_what_it_was_told(lead: tuple[Acceptor, LeadAddress]) -> None:
    acceptor, address = lead
    there = Connected()
    there.dialer.dial(dial(address, 9))
    await there.news()
    assert [each[:2] for each in there.ends] == [(4, 9)]
    worker, end = admitted(acceptor)
    assert (worker, end.epoch) == (1, 9)
    end.close()
    there.close()


async def test_failure_is_told_without_the_secret(
    lead: tuple[Acceptor, LeadAddress], caplog: pytest.LogCaptureFixture
) -> None:
    there = Connected()
    wrong = msgspec.structs.replace(lead[1], secret=b"quite another one, this")
    there.dialer.dial(dial(wrong, 9))
    await there.news()
    assert there.failures == [(4, 9)] and not there.ends
    assert "the secret is wrong" in caplog.text and "quite another" not in caplog.text


async def test_channel_that_nobody_wants_any_more_is_dropped(
    lead: tuple[Acceptor, LeadAddress],
) -> None:
    """The group died, or another channel was asked for, while the handshake went on."""
    there = Connected()
    there.dialer.dial(dial(lead[1], 9))
    there.dialer.forget(4, 8)
    there.dialer.dial(dial(lead[1], 10))
    await there.news()
    assert [each[:2] for each in there.ends] == [(4, 10)]
    there.dialer.dial(dial(lead[1], 11))
    there.dialer.forget(4, 11)
    there.dialer.dial(Dial(0, 1, 5, 12, lead[1]))
    await there.news()
    assert [each[:2] for each in there.ends] == [(4, 10), (5, 12)] and not there.failures
    there.close()
