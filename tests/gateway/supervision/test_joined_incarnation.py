"""A group that another gateway has started, played by hand at the end of a real connection."""

import asyncio
import socket
from collections.abc import Iterator

import msgspec
import pytest

from backend.settings import EngineSettings
from backend.wire.control import Budget, Dial, Progress
from backend.wire.messages import Ready
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.sockets import create_listener
from gateway.layout import GroupPlace
from gateway.supervision import joined_incarnation
from gateway.supervision.fault import Fault
from gateway.supervision.joined_incarnation import ONLOOKER, JoinedIncarnation, JoinedLauncher
from tests.backend.wire.tcp.pairs import SOME_REPLIES, admitted

SECRET = bytes(32)
IDENTITY = "0123456789abcdef"


class Owner:
    """Notes what an incarnation tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.fault: Fault | None = None
        self.has_served = False
        self._news = asyncio.Event()

    def was_placed(self) -> None:
        raise AssertionError("nothing is placed here")

    def progressed(self, title: str, news: Progress | Budget) -> None:
        raise AssertionError("nothing is started here")

    def became_ready(self) -> None:
        self._note("ready")

    def faulted(self, fault: Fault) -> None:
        self.fault = fault
        self._note("faulted")

    def ended(self) -> None:
        self._note("ended")

    def _note(self, what: str) -> None:
        self.told.append(what)
        self._news.set()

    async def until(self, *told: str) -> None:
        async with asyncio.timeout(60):
            while self.told != list(told):
                await self._news.wait()
                self._news.clear()


@pytest.fixture
def lead() -> Iterator[tuple[Acceptor, LeadAddress]]:
    listener = create_listener("127.0.0.1")
    host, port = listener.getsockname()
    acceptor = Acceptor(listener, SECRET, 7)
    yield acceptor, LeadAddress(host, port, SECRET)
    acceptor.close()


async def join(lead: tuple[Acceptor, LeadAddress], owner: Owner, model: str) -> JoinedIncarnation:
    """Join the group, whose lead says what model it has."""
    acceptor, address = lead
    place = GroupPlace(EngineSettings(), 0, address=address)
    incarnation = JoinedLauncher(IDENTITY).launch(4, 9, place, owner)
    key, end = await asyncio.to_thread(admitted, acceptor)
    assert key % 2**32 == ONLOOKER and key > 2**32, "it is no worker of the group's own gateway"
    ready = SOME_REPLIES[0]
    assert isinstance(ready, Ready)
    end.send(msgspec.structs.replace(ready, model=model))
    end.close()
    return incarnation


async def test_group_is_ready_once_it_has_said_what_it_is(
    lead: tuple[Acceptor, LeadAddress],
) -> None:
    owner = Owner()
    incarnation = await join(lead, owner, IDENTITY)
    await owner.until("ready")
    assert incarnation.ready is not None and incarnation.ready.model == IDENTITY
    assert not incarnation.is_over and incarnation.ranks() == []
    offer = incarnation.replica.connect(1, 12)
    assert isinstance(offer.message, Dial) and offer.message.gateway > 0
    assert (offer.message.worker, offer.message.replica, offer.message.epoch) == (1, 4, 12)
    incarnation.leave()
    await owner.until("ready", "ended")
    assert incarnation.fault is None


async def test_group_of_another_model_is_refused(lead: tuple[Acceptor, LeadAddress]) -> None:
    owner = Owner()
    await join(lead, owner, "another")
    await owner.until("faulted", "ended")
    assert owner.fault is not None and "serves another model" in owner.fault.summary


async def test_wrong_secret_is_no_matter_of_patience(lead: tuple[Acceptor, LeadAddress]) -> None:
    owner = Owner()
    address = msgspec.structs.replace(lead[1], secret=b"something else, surely")
    place = GroupPlace(EngineSettings(), 0, address=address)
    JoinedLauncher(IDENTITY).launch(4, 9, place, owner)
    await owner.until("faulted", "ended")
    assert owner.fault is not None and "the secret is wrong" in owner.fault.summary
    assert "surely" not in str(owner.fault)


async def test_group_that_is_not_there_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(joined_incarnation, "LEAST_WAIT_S", 0.01)
    monkeypatch.setattr(joined_incarnation, "MOST_WAIT_S", 0.01)
    owner = Owner()
    with create_listener("127.0.0.1") as listener:
        host, port = listener.getsockname()
        address = LeadAddress(host, port, SECRET)
        place = GroupPlace(EngineSettings(), 0, address=address)
        incarnation = JoinedLauncher(IDENTITY).launch(4, 9, place, owner)
        async with asyncio.timeout(60):
            while "cannot be joined yet" not in caplog.text:
                await asyncio.sleep(0)
        acceptor = Acceptor(listener.dup(), SECRET, 7)
        _, end = await asyncio.to_thread(admitted, acceptor)
        end.send(SOME_REPLIES[0])
        end.close()
        await owner.until("ready")
        incarnation.kill()
        await owner.until("ready", "ended")
        acceptor.close()


async def test_balancer_that_hangs_up_is_no_stranger(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy whose other side is not there yet takes connections and closes them: the group was
    given up for good, and a server that started then ended."""
    monkeypatch.setattr(joined_incarnation, "LEAST_WAIT_S", 0.01)
    owner = Owner()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        host, port = proxy.getsockname()
        address = LeadAddress(host, port, SECRET)
        place = GroupPlace(EngineSettings(), 0, address=address)
        incarnation = JoinedLauncher(IDENTITY).launch(4, 9, place, owner)
        for _ in range(2):
            (await asyncio.to_thread(proxy.accept))[0].close()
        incarnation.kill()
        await owner.until("ended")
    assert incarnation.fault is None
    assert "cannot be joined yet" in caplog.text and "closed the connection" in caplog.text
