"""A gateway worker between a mock engine and a load, and a baseline to compare it with.

Spawns the real worker and connects it by the channels that the supervisor makes; each process
listens on a port of its own. Knows nothing of what is measured. Used by gateway/bench/gateway.py.
"""

import select
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from backend.ranks.mock_lead import MockSpawn
from backend.settings import EngineSettings
from backend.wire.control import Attach, ControlClosed, Dial, Listen, Serving, Stop, ToSupervisor
from backend.wire.local.channel import create_channel
from backend.wire.local.child import Child
from backend.wire.messages import Ready
from backend.wire.tcp.address import LeadAddress, new_secret
from backend.wire.tcp.sockets import create_listener
from gateway.bench.baseline import BaselineSpawn
from gateway.bench.streamed_request import BenchError, Target
from gateway.bench.written import PLAIN, TEMPLATE, Written
from gateway.settings import Settings

START_SECONDS = 60.0
STOP_SECONDS = 10.0
MODEL = "bench"


class ServedProcess:
    """A spawned process with the port that it serves."""

    def __init__(self, title: str, entry: str, *arguments: object) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        host, port = self._listener.getsockname()
        self.target = Target(host, port)
        self.child = Child(title, entry, *arguments, self._listener)
        self._listener.close()


class GatewayHarness:
    """The processes of one measurement. Times are known when the context has been left."""

    def __init__(
        self,
        model: Path,
        token_ids: tuple[int, ...],
        rate: float,
        event: bytes,
        answer: bytes,
        written: Written = PLAIN,
        first_ids: tuple[int, ...] = (),
        *,
        is_tcp: bool = False,
    ) -> None:
        """rate: steps a second, 0 for as many as can be. event, answer: what the baseline sends.

        written: what the engine writes; first_ids: of it, what comes before token_ids.
        is_tcp: engine and worker talk through loopback, not through memory that they share.
        """
        self._is_tcp = is_tcp
        self._directory = tempfile.TemporaryDirectory(prefix="unisono-bench-")
        files = Path(self._directory.name)
        self._files = (files / "steps", files / "rounds")
        mock = MockSpawn(token_ids, rate, self._files[0], first_ids)
        (files / "template").write_text(TEMPLATE)
        server = msgspec.structs.replace(
            written.settings(str(files / "template")),
            served_model_name=(MODEL,),
            access_log=False,
            log_level="warning",
        )
        settings = Settings(server, EngineSettings(model=str(model)))
        self._engine = Child("mock engine", "backend.ranks.mock_lead:lead_main", mock)
        self.gateway = ServedProcess("worker 0", "gateway.worker:worker_main", 0, settings)
        spawn = BaselineSpawn(event, answer, rate, self._files[1])
        self.baseline = ServedProcess("baseline", "gateway.bench.baseline:baseline_main", spawn)
        # How long an answer takes, at the rate, until the words begin.
        self.head_s = len(first_ids) / rate if rate else 0.0
        self.step_times_s: list[float] = []
        self.round_times_s: list[float] = []

    def __enter__(self) -> "GatewayHarness":
        """Connect engine and worker, and wait until it serves. Raises BenchError."""
        try:
            _wait(self._engine, lambda message: isinstance(message, Ready))
            if self._is_tcp:
                self._connect_by_tcp()
            else:
                self._connect()
            _wait(self.gateway.child, lambda message: isinstance(message, Serving))
        except BaseException:
            self._end()
            raise
        return self

    def _connect(self) -> None:
        channel = create_channel()
        attach = Attach(0, 0, 1)
        self._engine.line.send(attach, channel.lead_end)
        self.gateway.child.line.send(attach, channel.worker_end)
        channel.close()

    def _connect_by_tcp(self) -> None:
        secret = new_secret()
        with create_listener("127.0.0.1") as listener:
            listener.listen()
            host, port = listener.getsockname()
            self._engine.line.send(Listen(secret, 1), (listener.fileno(),))
        address = LeadAddress(host, port, secret, 1)
        self.gateway.child.line.send(Dial(0, 0, 0, 1, address))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Stop every process and read what two of them wrote then.

        The worker first: an engine that goes before it is a fault, which it would log.
        """
        for child in (self.gateway.child, self.baseline.child, self._engine):
            try:
                child.line.send(Stop())
            except ControlClosed:
                pass  # it is dead already
            if not select.select([child.pidfd], [], [], STOP_SECONDS)[0]:
                child.kill()
            child.close()
        self.step_times_s, self.round_times_s = map(_read_times, self._files)
        self._directory.cleanup()


def _wait(child: Child, is_wanted: Callable[[ToSupervisor], bool]) -> None:
    deadline_s = time.monotonic() + START_SECONDS
    try:
        while (left_s := deadline_s - time.monotonic()) > 0:
            select.select([child.line], [], [], left_s)
            while (message := child.line.receive()) is not None:
                if is_wanted(message):
                    return
    except ControlClosed:
        raise BenchError(f"{child.title} ended before it was ready") from None
    raise BenchError(f"{child.title} was not ready within {START_SECONDS:g} s")


def _read_times(file: Path) -> list[float]:
    return msgspec.msgpack.decode(file.read_bytes(), type=list[float]) if file.exists() else []
