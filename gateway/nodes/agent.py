"""The agent of one group on a node: it starts the ranks there, watches them, and reports home.

Started by a placer (ray_placer.py) with an order on standard input, as a process of its own: no Ray
is in it, and it ends when whoever started it does. A group's inside is what it is on the
supervisor's own machine: local_incarnation.py has it here as there. When home falls silent, it
ends the ranks: home has given their requests to others.
"""

import asyncio
import contextlib
import logging
import os
import select
import socket
import sys
from pathlib import Path

import msgspec
from setproctitle import setproctitle

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.ranks.replica import check_group
from backend.wire.control import Budget, ControlClosed, Meet, Progress
from backend.wire.local.heartbeat import Load
from backend.wire.local.lifeline import ignore_terminal_signals, tie
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.encryption import fingerprint
from backend.wire.tcp.handshake import Hello
from backend.wire.tcp.listening import Listening
from backend.wire.tcp.sockets import BACKLOG, create_listener
from backend.wire.tcp.stream import Stream
from gateway.layout import GroupPlace
from gateway.nodes.build import build_id
from gateway.nodes.frame_stream import FrameStream, StreamLost
from gateway.nodes.model_files import model_on_node
from gateway.nodes.node_messages import (
    DetachWorker,
    Ended,
    Faulted,
    FromAgent,
    GroupIsReady,
    Kill,
    LaunchOrder,
    Leave,
    Look,
    MeetAt,
    Meets,
    OtherBuild,
    Placed,
    Ran,
    RankNews,
    Renew,
    Retire,
    Said,
    WhatRan,
    decode_order,
    decode_to_agent,
    encode,
)
from gateway.nodes.silence import Silence
from gateway.supervision.fault import Fault
from gateway.supervision.local_incarnation import LocalIncarnation

STDIN = 0
# Home notices a node that has vanished by what does not come.
LOOK_SECONDS = 0.5
# What takes longer to find, or has to be fetched, is told of.
PATIENCE_SECONDS = 5.0
# The last words have so long to leave; then the process ends anyway.
FLUSH_SECONDS = 2.0
# The group is over, and ended or not, nobody waits for its processes longer.
END_SECONDS = 20.0


def main() -> int:
    """Read an order from standard input, carry it out; return the exit status."""
    try:
        order = decode_order(_read_order())
    except OtherBuild as error:
        print(
            f"unisono: node {socket.gethostname()} runs {build_id()}, the supervisor {error}\n"
            "install the same version of Unisono on every node",
            file=sys.stderr,
        )
        return 1
    tie(STDIN, os.getpid())
    if select.select([STDIN], [], [], 0)[0]:
        return 1  # whoever started us is gone already
    setproctitle(f"unisono: node agent of group {order.number}")
    ignore_terminal_signals()
    try:
        stream = call_home(order)
    except DialError as error:
        print(f"unisono: home cannot be called: {error}", file=sys.stderr)
        return 1
    return asyncio.run(_serve(order, stream))


def _read_order() -> bytes:
    """Read a length, four bytes, and so many more; the pipe stays open."""
    return _read(int.from_bytes(_read(4), "little"))


def _read(num_bytes: int) -> bytes:
    data = b""
    while len(data) < num_bytes:
        piece = os.read(STDIN, num_bytes - len(data))
        if not piece:
            sys.exit("unisono: no order came; an agent is started by a placer")
        data += piece
    return data


def call_home(order: LaunchOrder) -> Stream:
    """Connect with the supervisor, and show that we have its secret. Raises DialError.

    Encrypted if the way to the group is, by the same certificate.
    """
    certificate = order.listen.certificate
    pin = fingerprint(certificate) if certificate else b""
    address = LeadAddress(*order.home, order.secret, fingerprint=pin)
    return dial(address, Hello(order.part, order.number, order.epoch, 0))


async def _serve(order: LaunchOrder, stream: Stream) -> int:
    agent = Agent(order, FrameStream(stream))
    logging.basicConfig(level=logging.INFO, handlers=[_LogSender(agent)], force=True)
    return await agent.run()


class Agent:
    """Owns a group here, and tells home of its turns."""

    def __init__(self, order: LaunchOrder, stream: FrameStream) -> None:
        self._order = order
        self._stream = stream
        self._silence = Silence(order.hang_s)
        self._host = order.host or stream.own_host
        self._node = f"{socket.gethostname()} ({self._host})"
        self._incarnation: LocalIncarnation | None = None
        self._meeting: MeetAt | None = None
        self._renewed: Renew | None = None
        self._has_ended = asyncio.Event()

    async def run(self) -> int:
        """Run the group to its end; return the exit status."""
        looking = asyncio.create_task(self._look())
        listening = asyncio.create_task(self._listen())
        try:
            self._incarnation = self._start(await self._find_place())
        except (ModelError, OSError) as error:
            fault: Fault | None = self._failure(str(error))
        else:
            ranks = [(child.title, child.pid) for child in self._incarnation.replica.ranks]
            self.tell(Placed(self._node, ranks))
            self._renew()
            await self._has_ended.wait()
            fault = self._incarnation.fault
        looking.cancel()
        listening.cancel()
        self.tell(Ended(fault))
        await self._stream.flush(FLUSH_SECONDS)
        self._stream.close()
        return 0 if self._incarnation is not None else 1

    def tell(self, message: FromAgent) -> None:
        """Say something to home."""
        self._stream.send(encode(message))

    async def _find_place(self) -> GroupPlace:
        """As _place(), in a thread: a model may be fetched for minutes."""
        place = asyncio.create_task(asyncio.to_thread(self._place))
        if not (await asyncio.wait({place}, timeout=PATIENCE_SECONDS))[0]:
            text = f"looks for {self._order.model_name}, and fetches it if it is not there"
            self.tell(Said(logging.INFO, text))
        return await place

    def _place(self) -> GroupPlace:
        """Return what to start here. Raises ModelError for what cannot be."""
        order = self._order
        path = model_on_node(order.model_name, order.model_digest, self._node)
        engine = msgspec.structs.replace(order.engine, model=str(path))
        check_group(load_config(Path(path), engine.model_impl, engine.task), engine)
        return GroupPlace(engine, order.first_rank, order.group_name)

    def _start(self, place: GroupPlace) -> LocalIncarnation:
        order = self._order
        own = order.number, order.epoch, place, order.hang_s, self
        if order.part:
            incarnation = LocalIncarnation(*own, part=order.part)
            if self._meeting is not None:
                incarnation.replica.meet(self._meet(self._meeting))
            return incarnation
        listener = create_listener(self._host, order.port)
        self._listener = listener.dup()
        listening = Listening(listener, order.listen)
        if order.engine.nodes == 1:
            return LocalIncarnation(*own, listening)
        where = create_listener(self._host)
        at = MeetAt(self._host, int(where.getsockname()[1]))
        incarnation = LocalIncarnation(*own, listening, meeting=(self._meet(at), where))
        self.tell(Meets(at.host, at.port))
        return incarnation

    def _meet(self, at: MeetAt) -> Meet:
        """Return what ranks are told of a meeting, encrypted if the way to the group is."""
        listen, epoch = self._order.listen, self._order.epoch
        pin = fingerprint(listen.certificate) if listen.certificate else b""
        address = LeadAddress(at.host, at.port, listen.secret, epoch, pin)
        return Meet(address, self._host, listen.certificate, listen.key)

    def _renew(self) -> None:
        """Pass a new certificate on, if one has come and a lead is there."""
        if self._renewed is not None and self._incarnation is not None and not self._order.part:
            with contextlib.suppress(ControlClosed):
                self._incarnation.replica.renew(self._renewed.certificate, self._renewed.key)

    def _failure(self, message: str) -> Fault:
        return Fault(
            f"node {self._node}", os.getpid(), "cannot start", message, self._order.epoch, "load", 0
        )

    # what the group's incarnation tells

    @property
    def has_served(self) -> bool:
        return True  # whether a failure is the end of the server is judged at home

    def was_placed(self) -> None:
        """Known here."""

    def progressed(self, title: str, news: Progress | Budget) -> None:
        self.tell(RankNews(title, news))

    def became_ready(self) -> None:
        """Say where the lead listens for workers; who calls sooner than it does waits."""
        assert self._incarnation is not None and self._incarnation.ready is not None
        with self._listener:
            self._listener.listen(BACKLOG)
            port = int(self._listener.getsockname()[1])
            self.tell(GroupIsReady(self._incarnation.ready, self._host, port))

    def faulted(self, fault: Fault) -> None:
        self.tell(Faulted(fault))

    def ended(self) -> None:
        self._has_ended.set()

    # what home says

    async def _listen(self) -> None:
        """Obey home; when it is lost, end the group."""
        try:
            while True:
                self._obey(decode_to_agent(await self._stream.receive_from(self._silence)))
        except (StreamLost, msgspec.MsgspecError):
            self._stream.close()
            if self._incarnation is not None:
                self._incarnation.kill()
                await asyncio.sleep(END_SECONDS)
            os._exit(1)

    def _obey(self, message: object) -> None:
        if isinstance(message, MeetAt):
            self._meeting = message
            if self._incarnation is not None:
                self._incarnation.replica.meet(self._meet(message))
            return
        if isinstance(message, Renew):
            self._renewed = message
            self._renew()
            return
        if self._incarnation is None:
            if isinstance(message, Leave | Kill):
                os._exit(0)  # a thread may be fetching the model, and waits for nobody
            return
        match message:
            case DetachWorker(worker, epoch):
                with contextlib.suppress(ControlClosed):
                    self._incarnation.replica.detach(worker, epoch)
            case WhatRan(step):
                page = self._incarnation.replica.page
                self.tell(Ran(page.batch_of(step) if step else page.batch(0)))
            case Retire():
                with contextlib.suppress(ControlClosed):
                    self._incarnation.replica.retire()
            case Leave():
                self._incarnation.leave()
            case Kill():
                self._incarnation.kill()

    async def _look(self) -> None:
        """Show again and again that the node lives, and what the ranks do."""
        while True:
            look = Look([], Load())
            if self._incarnation is not None:
                look = Look(self._incarnation.ranks(), self._incarnation.replica.load)
            self.tell(look)
            self._silence.beat()
            await asyncio.sleep(LOOK_SECONDS)


class _LogSender(logging.Handler):
    """Sends home what is logged here."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self._agent = agent

    def emit(self, record: logging.LogRecord) -> None:
        self._agent.tell(Said(record.levelno, record.getMessage()))


if __name__ == "__main__":
    sys.exit(main())
