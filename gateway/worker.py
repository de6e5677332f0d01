"""A gateway worker: one process that speaks HTTP, on Hypercorn and uvloop.

Serves on the sockets it inherits, so a listening backlog outlives it. The supervisor connects it
with the groups, and tells it when to drain. Knows no torch.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvloop
from hypercorn.asyncio import serve
from starlette.types import ASGIApp

from backend.config.errors import ModelError
from backend.wire.control import (
    Attach,
    ChildLine,
    ControlClosed,
    Cut,
    Detach,
    Dial,
    Drain,
    NameGroups,
    Observe,
    Ping,
    Pong,
    Quiesce,
    Quiet,
    Reload,
    Serving,
    Stop,
)
from backend.wire.local.child import ChildContext
from backend.wire.local.ends import LocalWorkerEnd
from backend.wire.messages import Failed, StepOutput
from gateway import connection
from gateway.answers.chunk_writer import offering_chunk_writers
from gateway.app import by_port, create_app, create_management_app
from gateway.http_server import GRACEFUL_TIMEOUT_S, connection_bounds, hypercorn_config
from gateway.open_exchanges import OpenExchanges
from gateway.pool.dialer import Dialer
from gateway.pool.listener import PoolListener
from gateway.security.key_file import KeyFileError
from gateway.security.tls import TlsError, TlsFiles
from gateway.service import Service
from gateway.service_factory import build_service, warn_of_tokens_without_rows
from gateway.settings import Settings
from gateway.supervision.control_client import ControlClient
from gateway.supervision.control_socket import control_path
from gateway.telemetry import logs
from gateway.telemetry.observer import Observer
from gateway.text.tokenizer import TokenizerError

logger = logging.getLogger(__name__)


def worker_main(
    context: ChildContext, worker: int, settings: Settings, *listeners: socket.socket
) -> None:
    """Entry point of a spawned worker; returns when drained or told to stop.

    listeners: where it serves; the second, if there is one, is the management API's.
    """
    line = context.begin()
    logs.configure(f"worker {worker}", settings.server.log_level, settings.server.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(Worker(worker, settings, line).run(listeners))
        except (ModelError, TokenizerError, TlsError) as error:
            line.send(Failed(worker, str(error)))
            sys.exit(1)


class Worker:
    """Ties the control line, the pool and the HTTP server together."""

    def __init__(self, worker: int, settings: Settings, line: ChildLine) -> None:
        self._worker = worker
        self._settings = settings
        self._line = line
        self._stop = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Serve until stopped."""
        self._service = service = build_service(
            self._settings, lambda observer: WorkerReporter(self._worker, self._line, observer)
        )
        if self._worker == 0:
            warn_of_tokens_without_rows(service)
        self._pool = service.pool
        self._observer = service.observer
        self._dialer = Dialer(self._pool.attach, self._report_cut)
        server = self._settings.server
        self._tls = TlsFiles(server.tls_cert, server.tls_key) if server.tls_cert else None
        self._reload()
        self._exchanges = OpenExchanges(self._app(service, listeners))
        served = offering_chunk_writers(self._exchanges)
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._obey)
        # What lives now lives for ever; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        connection.install(connection_bounds(self._settings.server))
        # hypercorn.asyncio.serve is typed for its own protocol classes.
        app: Any = served
        await serve(
            app,
            hypercorn_config(listeners, self._tls),
            shutdown_trigger=self._stop.wait,
            mode="asgi",
        )
        self._observer.close()
        # The interpreter would wait for a thread that waits for a helper.
        if service.chat_templates is not None:
            service.chat_templates.close()
        if service.grammar_validator is not None:
            await service.grammar_validator.close()

    def _app(self, service: Service, listeners: Sequence[socket.socket]) -> ASGIApp:
        """Return what answers on each of the listening sockets."""
        app, server = create_app(service), self._settings.server
        port, *others = [listener.getsockname()[1] for listener in listeners]
        if not others:
            return app
        control = ControlClient(control_path(server, port))
        management = create_management_app(service, control, server.drain_seconds)
        return by_port(app, dict.fromkeys(others, management))

    def _obey(self) -> None:
        """Take what the supervisor says."""
        try:
            while (packet := self._line.receive()) is not None:
                message, fds = packet
                match message:
                    case Observe():
                        self._observer.connect(message.worker, fds)
                        for fd in fds:
                            os.close(fd)
                    case NameGroups():
                        self._pool.name_groups(message.names)
                    case Attach():
                        end = LocalWorkerEnd(message.epoch, fds)
                        self._pool.attach(message.replica, message.epoch, end)
                    case Dial():
                        self._dialer.dial(message)
                    case Detach():
                        self._dialer.forget(message.replica, message.epoch)
                        self._pool.detach(message.replica, message.epoch, message.suspects)
                    case Quiesce():
                        self._pool.quiesce(message.replica, message.epoch)
                    case Reload():
                        self._reload()
                    case Drain():
                        self._draining = asyncio.create_task(self._drain(message.seconds))
                    case Ping():
                        self._line.send(Pong())
                    case Stop():
                        self._stop.set()
        except ControlClosed:
            self._stop.set()

    def _report_cut(self, replica: int, epoch: int) -> None:
        """A channel could not be made."""
        self._line.send(Cut(self._worker, replica, epoch))

    def _reload(self) -> None:
        """Take the keys and the certificate that their files have now. What cannot be used changes
        nothing; a new worker without keys lets nobody in."""
        keyring, tls = self._service.keyring, self._tls
        try:
            if keyring is not None:
                keyring.reload()
                logger.info("%d API keys read", len(keyring))
        except KeyFileError as error:
            logger.error("API keys not read, %d stay: %s", len(keyring or ()), error)
        try:
            if tls is not None:
                tls.reload()
                logger.info("certificate read")
        except TlsError as error:
            logger.error("certificate not read, the old one stays: %s", error)

    async def _drain(self, seconds: float) -> None:
        """Let running requests end, then stop serving."""
        try:
            async with asyncio.timeout(seconds):
                await self._pool.drain()
                await self._exchanges.end()
        except TimeoutError:
            num_open = len(self._exchanges)
            if seconds:
                logger.warning("%d requests run after %g s; they are cut off", num_open, seconds)
            else:
                logger.warning("%d requests are cut off", num_open)
            self._pool.cut_off()
            told = asyncio.create_task(self._exchanges.end())
            await asyncio.wait((told,), timeout=GRACEFUL_TIMEOUT_S)
        self._stop.set()


class WorkerReporter(PoolListener):
    """Tells the supervisor of groups and channels, and the observer of frames."""

    def __init__(self, worker: int, line: ChildLine, observer: Observer) -> None:
        self._worker = worker
        self._line = line
        self._observer = observer

    def on_ready(self, replica: int) -> None:
        self._line.send(Serving(self._worker, replica))

    def on_quiet(self, replica: int, epoch: int) -> None:
        self._line.send(Quiet(self._worker, replica, epoch))

    def on_cut(self, replica: int, epoch: int) -> None:
        self._line.send(Cut(self._worker, replica, epoch))

    def on_resume(self, lost_s: float) -> None:
        self._observer.note_resumption(lost_s)

    def on_frame(self, replica: int, frame: StepOutput) -> None:
        self._observer.note_frame(replica, frame)
