"""An agent whose home a test plays, from its start to where it would start ranks."""

import asyncio
import threading

import pytest

from backend.config.errors import ModelError
from backend.settings import EngineSettings
from backend.wire.control import Listen
from backend.wire.tcp.stream import Stream
from gateway.layout import GroupPlace
from gateway.nodes import agent as agent_module
from gateway.nodes.agent import Agent
from gateway.nodes.frame_stream import FrameStream
from gateway.nodes.node_messages import Ended, LaunchOrder, Look, Said, decode_from_agent
from tests.backend.wire.tcp.pairs import connected

ORDER = LaunchOrder(
    home=("127.0.0.1", 1),
    secret=bytes(32),
    number=3,
    epoch=7,
    engine=EngineSettings(),
    first_rank=0,
    group_name="primary",
    listen=Listen(bytes(32), 7),
    hang_s=10.0,
    model_name="org/large",
)


async def test_agent_shows_that_it_lives_while_a_model_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fetch of more than nine seconds was taken for a node that has vanished."""
    monkeypatch.setattr(agent_module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(agent_module, "PATIENCE_SECONDS", 0.001)
    fetched = threading.Event()

    def place(agent: Agent) -> GroupPlace:
        fetched.wait(10)
        raise ModelError("there is no room for it")

    monkeypatch.setattr(Agent, "_place", place)
    ours, theirs = (FrameStream(Stream(sock)) for sock in connected())
    running = asyncio.create_task(Agent(ORDER, theirs).run())
    heard = [decode_from_agent(await ours.receive(10)) for _ in range(10)]
    assert heard.count(heard[0]) >= 9 and isinstance(heard[0], Look)
    [said] = [message for message in heard if isinstance(message, Said)]
    assert "org/large" in said.text
    fetched.set()
    while isinstance(message := decode_from_agent(await ours.receive(10)), Look):
        pass
    assert isinstance(message, Ended) and message.fault is not None
    assert message.fault.message == "there is no room for it"
    assert await running == 1
    ours.close()
