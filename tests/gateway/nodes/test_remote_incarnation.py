"""An incarnation on another node, with an agent that says what a test has it say."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from backend.settings import EngineSettings
from backend.wire.control import Budget, ControlClosed, Dial, Progress
from backend.wire.local.heartbeat import Load, Phase
from backend.wire.messages import Ready
from backend.wire.tcp.dial import DialError
from backend.wire.tcp.encryption import self_signed_pair
from backend.wire.tcp.handshake import Reason
from gateway.layout import GroupPlace
from gateway.nodes.agent import call_home
from gateway.nodes.frame_stream import FrameStream
from gateway.nodes.home import Home
from gateway.nodes.node_messages import (
    DetachWorker,
    Ended,
    Faulted,
    FromAgent,
    GroupIsReady,
    LaunchOrder,
    Leave,
    Look,
    Ping,
    Placed,
    RankNews,
    ToAgent,
    decode_to_agent,
    encode,
)
from gateway.nodes.placer import PlacementOwner
from gateway.nodes.remote_incarnation import RemoteIncarnation
from gateway.nodes.remote_launcher import RemoteLauncher, RemoteModel
from gateway.settings import ServerSettings
from gateway.supervision.fault import Fault
from gateway.supervision.listening import GroupListening

READY = Ready(3, 7, "cpu", "float32", "portable", 64, 64, 64, 1 << 20, 8, 32, [1], 0, 100)
FAULT = Fault("rank 3.0", 9, "killed by SIGSEGV", "", 7, "step", 5, suspects=[(0, 1)])


@dataclass
class Owner:
    """A group that writes down what it is told."""

    has_served: bool = True
    told: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def was_placed(self) -> None: ...

    def progressed(self, title: str, news: Progress | Budget) -> None:
        self.note(f"progressed {title}")

    def became_ready(self) -> None:
        self.note("ready")

    def faulted(self, fault: Fault) -> None:
        self.note(f"faulted: {fault.summary}")

    def ended(self) -> None:
        self.note("ended")

    def note(self, text: str) -> None:
        self.told.append(text)
        self.news.set()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while not any(each.startswith(text) for each in self.told):
                self.news.clear()
                await self.news.wait()


@dataclass
class FakePlacer:
    orders: list[LaunchOrder] = field(default_factory=list)
    owners: list[PlacementOwner] = field(default_factory=list)
    displaced: list[tuple[int, int]] = field(default_factory=list)

    def place(self, orders: Sequence[LaunchOrder], node: str, owner: PlacementOwner) -> None:
        self.orders += orders
        self.owners.append(owner)

    def displace(self, number: int, epoch: int) -> None:
        self.displaced.append((number, epoch))

    def close(self) -> None: ...


class World:
    """Group 3 in its epoch 7, and its agent once it has called."""

    def __init__(
        self, hang_s: float = 10.0, *, has_served: bool = True, certificate: str = "", key: str = ""
    ) -> None:
        """certificate, key: files."""
        self.placer = FakePlacer()
        self.owner = Owner(has_served)
        model = RemoteModel("model", "digest")
        server = ServerSettings(
            hang_seconds=hang_s,
            placement_seconds=0.01,
            group_tls_cert=certificate,
            group_tls_key=key,
        )
        listening = GroupListening(server)
        self.home = Home("127.0.0.1", 0, listening.certificate, listening.key)
        launcher = RemoteLauncher(self.home, self.placer, model, server, listening)
        place = GroupPlace(EngineSettings(), 0)
        self.streams: list[FrameStream] = []
        incarnation = launcher.launch(3, 7, place, self.owner)
        assert isinstance(incarnation, RemoteIncarnation)
        self.incarnation = incarnation

    @property
    def order(self) -> LaunchOrder:
        return self.placer.orders[0]

    async def call(self) -> None:
        self.agent = FrameStream(await asyncio.to_thread(call_home, self.order))
        self.streams.append(self.agent)

    def say(self, *messages: FromAgent) -> None:
        for message in messages:
            self.agent.send(encode(message))

    async def hear(self) -> ToAgent:
        """The next thing that is no ping."""
        while True:
            message: ToAgent = decode_to_agent(await self.agent.receive(10))
            if not isinstance(message, Ping):
                return message

    async def make_ready(self) -> None:
        await self.call()
        self.say(Placed("n1", [("rank 3.0", 9)]), GroupIsReady(READY, "10.0.0.2", 5000))
        await self.owner.until("ready")


@contextlib.asynccontextmanager
async def world(
    hang_s: float = 10.0, *, has_served: bool = True, certificate: str = "", key: str = ""
) -> AsyncIterator[World]:
    made = World(hang_s, has_served=has_served, certificate=certificate, key=key)
    try:
        yield made
    finally:
        made.incarnation.kill()
        await made.owner.until("ended")
        made.home.close()
        for stream in made.streams:
            stream.close()


async def test_group_is_placed_loads_and_takes_workers() -> None:
    async with world() as w:
        w.incarnation.waits("for 4 CPU")
        assert w.incarnation.waits_for == "for 4 CPU"
        w.incarnation.started("n1")
        assert w.incarnation.waits_for == ""
        with pytest.raises(ControlClosed):
            w.incarnation.replica.connect(0, 12)
        await w.call()
        w.say(RankNews("rank 3.0", Progress(0, Phase.LOAD, 0.5)))
        await w.owner.until("progressed rank 3.0")
        w.say(Placed("n1", [("rank 3.0", 9)]), Look([], Load(2, 1, 5)))
        w.say(GroupIsReady(READY, "10.0.0.2", 5000))
        await w.owner.until("ready")
        assert w.incarnation.replica.node == "n1"
        assert w.incarnation.replica.load.num_running == 2
        message = w.incarnation.replica.connect(0, 12).message
        assert isinstance(message, Dial)
        assert (message.address.host, message.address.port) == ("10.0.0.2", 5000)
        assert message.address.secret == w.order.listen.secret != w.order.secret
        w.incarnation.replica.detach(0, 12)
        assert await w.hear() == DetachWorker(0, 12)


async def test_fault_on_the_node_is_passed_on_and_its_stacks_follow() -> None:
    async with world() as w:
        await w.make_ready()
        w.say(Faulted(FAULT), Ended(msgspec.structs.replace(FAULT, stacks={"rank 3.0": ["f()"]})))
        await w.owner.until("ended")
        assert w.owner.told == ["ready", "faulted: rank 3.0 killed by SIGSEGV", "ended"]
        assert w.incarnation.fault is not None and w.incarnation.fault.stacks
        assert w.placer.displaced == [(3, 7)]


async def test_node_that_falls_silent_is_lost_and_nobody_is_blamed() -> None:
    async with world(hang_s=0.2) as w:
        await w.make_ready()
        await w.owner.until("ended")
        assert w.owner.told[1:] == ["faulted: node n1 is lost: silent for 0.2 s", "ended"]
        assert w.incarnation.fault is not None and w.incarnation.fault.is_foreign


async def test_agent_that_hangs_up_is_lost_at_once() -> None:
    async with world() as w:
        await w.make_ready()
        w.agent.close()
        await w.owner.until("faulted: node n1 is lost")


async def test_group_told_to_leave_ends_without_a_fault() -> None:
    async with world() as w:
        await w.make_ready()
        w.incarnation.leave()
        assert await w.hear() == Leave()
        w.say(Ended())
        await w.owner.until("ended")
        assert w.incarnation.fault is None


async def test_group_that_is_never_placed_says_what_it_waits_for() -> None:
    async with world(has_served=False) as w:
        w.incarnation.waits("for 4 CPU on one node; no node")
        await w.owner.until("ended")
        assert "cannot be placed: group 3 waits for 4 CPU on one node" in w.owner.told[0]


async def test_agent_with_wrong_secret_or_epoch_is_refused_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as w:
        wrong = msgspec.structs.replace(w.order, secret=b"x" * 32)
        with pytest.raises(DialError, match="secret"):
            await asyncio.to_thread(call_home, wrong)
        late = await asyncio.to_thread(call_home, msgspec.structs.replace(w.order, epoch=6))
        late.close()
        async with asyncio.timeout(60):
            while w.home.num_refused.total() < 2:
                await asyncio.sleep(0)
        assert w.home.num_refused == {Reason.SECRET: 1, Reason.INCARNATION: 1}
        assert w.order.secret.hex() not in caplog.text and "xxxx" not in caplog.text
        assert repr(w.order.secret) not in repr(w.order)


async def test_agents_are_heard_beside_those_that_say_nothing() -> None:
    """Sixteen silent connections kept every agent out for as long as they stayed."""
    async with world() as w:
        silent = [socket.create_connection(w.home.address) for _ in range(40)]
        await w.make_ready()
        for each in silent:
            each.close()


async def test_what_agents_say_is_encrypted_as_the_way_to_groups(tmp_path: Path) -> None:
    certificate, key = self_signed_pair()
    files = tmp_path / "certificate", tmp_path / "key"
    files[0].write_text(certificate)
    files[1].write_text(key)
    async with world(certificate=str(files[0]), key=str(files[1])) as w:
        await w.make_ready()
        w.incarnation.replica.detach(0, 12)
        assert await w.hear() == DetachWorker(0, 12)
        assert w.order.listen.certificate == certificate
        w.agent.close()
        await w.owner.until("faulted")
