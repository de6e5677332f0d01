"""A gateway worker: one process that speaks HTTP, on Hypercorn and uvloop.

Serves on the sockets it inherits, so a listening backlog outlives it. The supervisor connects it
with the groups, and tells it when to drain. Knows no torch.
"""

import asyncio
import gc
import hashlib
import logging
import os
import resource
import socket
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.config.load import load_config
from backend.config.model_config import ModelError
from backend.wire.control import (
    Attach,
    ChildLine,
    ControlClosed,
    Cut,
    Detach,
    Drain,
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
from backend.wire.messages import Failed
from gateway import connection
from gateway.answers.chunk_writer import offering_chunk_writers
from gateway.app import create_app
from gateway.layout import layout
from gateway.pool.body_budget import BodyBudget
from gateway.pool.replicas import ReplicaPool
from gateway.sandbox.chat_template import ChatTemplate
from gateway.sandbox.grammar_validator import GrammarValidator, GrammarVocabulary
from gateway.security.key_file import KeyFileError
from gateway.security.keyring import Keyring
from gateway.security.tls import TlsConfig, TlsError, TlsFiles
from gateway.service import Limits, Service
from gateway.settings import ServerSettings, Settings
from gateway.supervision.listener import LISTEN_BACKLOG
from gateway.telemetry import logs
from gateway.telemetry.observer import Observer
from gateway.text.tokenizer import Tokenizer, TokenizerError

if TYPE_CHECKING:
    from gateway.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)

# Channels, pages, libraries, and connections that are being turned away.
SPARE_DESCRIPTORS = 256
# Hypercorn's own; connections still open then are idle or have had their time (see Drain).
GRACEFUL_TIMEOUT_S = 1.0


def worker_main(
    context: ChildContext, worker: int, settings: Settings, listener: socket.socket
) -> None:
    """Entry point of a spawned worker; returns when drained or told to stop."""
    line = context.begin()
    logs.configure(f"gateway {worker}", settings.server.log_level, settings.server.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(Worker(worker, settings, line).run(listener))
        except (ModelError, TokenizerError, TlsError) as error:
            line.send(Failed(worker, str(error)))
            sys.exit(1)


class OpenExchanges:
    """Counts the requests under way, answers still being written included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one exchange on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._count += 1
        self._none.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def end(self) -> None:
        """Return when none is left."""
        await self._none.wait()


class Worker:
    """Ties the control line, the pool and the HTTP server together."""

    def __init__(self, worker: int, settings: Settings, line: ChildLine) -> None:
        self._worker = worker
        self._settings = settings
        self._line = line
        self._stop = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    async def run(self, listener: socket.socket) -> None:
        """Serve until stopped."""
        self._service = service = build_service(self._settings)
        if self._worker == 0:
            _warn_of_tokens_without_rows(service)
        self._pool = service.pool
        self._observer = service.observer
        self._observer.watch(self._pool)
        server = self._settings.server
        self._tls = TlsFiles(server.tls_cert, server.tls_key) if server.tls_cert else None
        self._reload()
        self._exchanges = OpenExchanges(create_app(service))
        served = offering_chunk_writers(self._exchanges)
        self._pool.on_ready = lambda replica: self._line.send(Serving(self._worker, replica))
        self._pool.on_quiet = lambda replica, epoch: self._line.send(
            Quiet(self._worker, replica, epoch)
        )
        self._pool.on_cut = lambda replica, epoch: self._line.send(
            Cut(self._worker, replica, epoch)
        )
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._obey)
        # What lives now lives for ever; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        connection.install(connection_bounds(self._settings.server))
        # hypercorn.asyncio.serve is typed for its own protocol classes.
        app: Any = served
        await serve(
            app,
            hypercorn_config(listener, self._tls),
            shutdown_trigger=self._stop.wait,
            mode="asgi",
        )
        self._observer.close()
        # The interpreter would wait for a thread that waits for a helper.
        if service.chat_template is not None:
            service.chat_template.close()
        if service.grammar_validator is not None:
            await service.grammar_validator.close()

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
                    case Attach():
                        self._pool.attach(message.replica, message.epoch, fds)
                    case Detach():
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
            logger.warning("requests still run after %g s; cutting them off", seconds)
            self._pool.cut_off()
            told = asyncio.create_task(self._exchanges.end())
            await asyncio.wait((told,), timeout=GRACEFUL_TIMEOUT_S)
        self._stop.set()


def build_service(settings: Settings) -> Service:
    """Put together what the endpoints are given. Raises ModelError and TokenizerError."""
    server, engine = settings.server, settings.engine
    path = Path(engine.model)
    config = load_config(path)
    max_model_len = min(engine.max_model_len or config.max_model_len, config.max_model_len)
    tokenizer = Tokenizer.load(path, config.vocab_size)
    template = tokenizer.chat_template
    names = server.served_model_name or (config.name,)
    return Service(
        model_names=names,
        tokenizer=tokenizer,
        chat_template=ChatTemplate(tokenizer, template) if template else None,
        pool=ReplicaPool(
            max_model_len,
            tokenizer.pieces,
            resume_seconds=server.resume_seconds,
            queue_seconds=server.queue_seconds,
            max_waiting=server.max_waiting,
        ),
        vocab_size=config.vocab_size,
        created=int(time.time()),
        system_fingerprint=_fingerprint(path, settings),
        limits=Limits(
            max_body_bytes=server.max_body_bytes,
            ping_interval_s=server.ping_seconds,
            send_timeout_s=server.send_timeout_s,
            body_timeout_s=server.body_timeout_s,
        ),
        body_budget=BodyBudget(server.max_bodies_bytes),
        keyring=Keyring.of(server),
        allow_anonymous=server.allow_anonymous,
        strict=server.strict,
        observer=Observer(access_log=server.access_log, tracing=_tracing(server, names[0])),
        grammar_validator=GrammarValidator(
            lambda: GrammarVocabulary(tokenizer.pieces(), tokenizer.eos_token_ids)
        ),
    )


def _warn_of_tokens_without_rows(service: Service) -> None:
    """Name the tokens of the tokenizer's files that the model cannot read."""
    if tokens := service.tokenizer.tokens_without_rows:
        more = f" and {len(tokens) - 8} more" if len(tokens) > 8 else ""
        logger.warning(
            "the tokenizer names tokens that the model has no embedding for (%d rows): %s%s;"
            " text that spells them is read as plain characters",
            service.vocab_size,
            ", ".join(map(repr, tokens[:8])),
            more,
        )


def _tracing(server: ServerSettings, model_name: str) -> "Tracing | None":
    if not server.otel_endpoint:
        return None
    # Of the extra `otel`; `serve` has made sure that it is there.
    from gateway.telemetry.tracing import Tracing, otlp_exporter

    return Tracing(otlp_exporter(server.otel_endpoint), model_name)


def connection_bounds(server: ServerSettings) -> connection.Bounds:
    """Return the limits of connections, and get the descriptors that they need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return connection.Bounds(
        max_connections=max(1, min(server.max_connections, most - SPARE_DESCRIPTORS)),
        send_timeout_s=server.send_timeout_s,
    )


def hypercorn_config(listener: socket.socket, tls: TlsFiles | None = None) -> Config:
    """HTTP/1.1 on an inherited socket."""
    config = Config() if tls is None else TlsConfig(tls.context)
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = LISTEN_BACKLOG
    config.errorlog = logging.getLogger("hypercorn")  # ours to format
    config.errorlog.setLevel(logging.WARNING)  # it says it runs before it does
    # Load generators and proxies keep connections: hanging up on one between two requests
    # shows as an error there.
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 1 << 31
    config.alpn_protocols = ["http/1.1"]
    config.include_server_header = False
    config.graceful_timeout = GRACEFUL_TIMEOUT_S
    config.h11_max_incomplete_size = 1 << 14
    return config


def _fingerprint(path: Path, settings: Settings) -> str:
    """Name what decides a seeded completion: release, weights, arithmetic and how it is split."""
    stat = path.stat()
    facts = [metadata.version("unisono"), path.name, stat.st_size, int(stat.st_mtime)]
    facts += [settings.engine.dtype, settings.engine.exact]
    facts += sorted({place.engine.tp for place in layout(settings)})
    return f"fp_{hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:10]}"
