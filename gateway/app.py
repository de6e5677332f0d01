"""The ASGI application: routes, and what every exchange is owed whatever happens inside.

create_app() is given a Service and knows no server. Middleware is pure ASGI. Called by the worker.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.dialects.error_forms import error_form_of
from gateway.endpoints.chat import create_chat_completion
from gateway.endpoints.completions import create_completion
from gateway.endpoints.embeddings import create_embeddings
from gateway.endpoints.health import livez, readyz, version
from gateway.endpoints.management import (
    create_reader,
    delete_reader,
    management_status,
    reader_config,
    reader_groups,
)
from gateway.endpoints.messages import count_tokens, create_message
from gateway.endpoints.metrics import metrics
from gateway.endpoints.models import list_models, retrieve_model
from gateway.endpoints.ollama import (
    ollama_chat,
    ollama_generate,
    ollama_running,
    ollama_show,
    ollama_tags,
    ollama_version,
)
from gateway.endpoints.ollama_embed import ollama_embed, ollama_embeddings
from gateway.endpoints.openapi import docs, openapi_json
from gateway.endpoints.page import page_file, root
from gateway.endpoints.rerank import rerank
from gateway.endpoints.responses import count_input_tokens, create_response, retrieve_response
from gateway.endpoints.takeoff import (
    takeoff_classify,
    takeoff_embed,
    takeoff_generate,
    takeoff_generate_stream,
)
from gateway.endpoints.takeoff_readers import (
    takeoff_chat_template,
    takeoff_config,
    takeoff_detokenize,
    takeoff_healthz,
    takeoff_status,
    takeoff_tokenize,
)
from gateway.endpoints.tokenize import detokenize, tokenize
from gateway.errors import ApiError
from gateway.exchange_context import ExchangeContext, exchange_context
from gateway.requests.unknown_fields import HEADER
from gateway.security.access import Access, Gate
from gateway.security.cross_origin import METHODS as SERVED_METHODS
from gateway.security.cross_origin import CrossOrigin
from gateway.service import Service
from gateway.supervision.control_client import ControlClient
from gateway.telemetry import logs
from gateway.telemetry.access_log import NO_ROUTE
from gateway.telemetry.exchange import Exchange, Refusal
from gateway.telemetry.observer import Observer

logger = logging.getLogger(__name__)

# Whatever else a client makes up is not worth a figure of its own.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
IGNORED_FIELDS = HEADER.encode()
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(service: Service) -> ASGIApp:
    """Build the application that serves `service`."""
    routes = [
        (Access.INFER, Route("/v1/chat/completions", create_chat_completion, methods=["POST"])),
        (Access.INFER, Route("/v1/completions", create_completion, methods=["POST"])),
        (Access.INFER, Route("/v1/messages", create_message, methods=["POST"])),
        (Access.INFER, Route("/v1/messages/count_tokens", count_tokens, methods=["POST"])),
        (Access.INFER, Route("/v1/responses", create_response, methods=["POST"])),
        (
            Access.INFER,
            Route("/v1/responses/input_tokens", count_input_tokens, methods=["POST"]),
        ),
        (
            Access.INFER,
            Route("/v1/responses/{name:path}", retrieve_response, methods=["GET"]),
        ),
        (Access.INFER, Route("/api/chat", ollama_chat, methods=["POST"])),
        (Access.INFER, Route("/api/generate", ollama_generate, methods=["POST"])),
        (Access.INFER, Route("/api/embed", ollama_embed, methods=["POST"])),
        (Access.INFER, Route("/api/embeddings", ollama_embeddings, methods=["POST"])),
        (Access.INFER, Route("/api/tags", ollama_tags, methods=["GET"])),
        (Access.INFER, Route("/api/ps", ollama_running, methods=["GET"])),
        (Access.INFER, Route("/api/show", ollama_show, methods=["POST"])),
        (Access.INFER, Route("/api/version", ollama_version, methods=["GET"])),
        (Access.INFER, Route("/generate", takeoff_generate, methods=["POST"])),
        (Access.INFER, Route("/generate_stream", takeoff_generate_stream, methods=["POST"])),
        (Access.INFER, Route("/embed", takeoff_embed, methods=["POST"])),
        (Access.INFER, Route("/classify", takeoff_classify, methods=["POST"])),
        (Access.INFER, Route("/status", takeoff_status, methods=["GET"])),
        (Access.INFER, Route("/config", takeoff_config, methods=["GET"])),
        (Access.INFER, Route("/config/{name:path}", takeoff_config, methods=["GET"])),
        (Access.INFER, Route("/tokenize/{name:path}", takeoff_tokenize, methods=["POST"])),
        (Access.INFER, Route("/detokenize/{name:path}", takeoff_detokenize, methods=["POST"])),
        (
            Access.INFER,
            Route("/chat_template/{name:path}", takeoff_chat_template, methods=["POST"]),
        ),
        (Access.OPEN, Route("/healthz", takeoff_healthz, methods=["GET"])),
        (Access.INFER, Route("/v1/embeddings", create_embeddings, methods=["POST"])),
        (Access.INFER, Route("/v1/rerank", rerank, methods=["POST"])),
        (Access.INFER, Route("/rerank", rerank, methods=["POST"])),
        (Access.INFER, Route("/v2/rerank", rerank, methods=["POST"])),
        (Access.INFER, Route("/tokenize", tokenize, methods=["POST"])),
        (Access.INFER, Route("/detokenize", detokenize, methods=["POST"])),
        (Access.INFER, Route("/v1/models", list_models, methods=["GET"])),
        (Access.INFER, Route("/v1/models/{name:path}", retrieve_model, methods=["GET"])),
        (Access.OPEN, Route("/", root, methods=["GET"])),
        (Access.OPEN, Route("/page/{name}", page_file, methods=["GET"])),
        (Access.OPEN, Route("/livez", livez, methods=["GET"])),
        (Access.OPEN, Route("/readyz", readyz, methods=["GET"])),
        (Access.OPEN, Route("/health", readyz, methods=["GET"])),
        (Access.ADMIN, Route("/metrics", metrics, methods=["GET"])),
        (Access.INFER, Route("/version", version, methods=["GET"])),
        (Access.OPEN, Route("/openapi.json", openapi_json, methods=["GET"])),
        (Access.OPEN, Route("/docs", docs, methods=["GET"])),
    ]
    return _application(routes, service)


def create_management_app(
    service: Service, control: ControlClient, drain_seconds: float
) -> ASGIApp:
    """Build the application of the management API, which is served on a port of its own.

    control: asks the supervisor. drain_seconds: what streams in a reader that is deleted may take.
    """
    routes = [
        (Access.MANAGE, Route("/reader_groups", reader_groups, methods=["GET"])),
        (Access.MANAGE, Route("/reader", create_reader, methods=["POST"])),
        (Access.MANAGE, Route("/reader/{name:path}", delete_reader, methods=["DELETE"])),
        (Access.MANAGE, Route("/config/{name:path}", reader_config, methods=["GET"])),
        (Access.MANAGE, Route("/status", management_status, methods=["GET"])),
        (Access.MANAGE, Route("/metrics", metrics, methods=["GET"])),
        (Access.OPEN, Route("/healthz", takeoff_healthz, methods=["GET"])),
    ]
    app = _application(routes, service)
    app.state.control, app.state.drain_seconds = control, drain_seconds
    return app


def by_port(app: ASGIApp, others: Mapping[int, ASGIApp]) -> ASGIApp:
    """Return an application that answers on certain ports as others do."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        server = scope.get("server")
        await others.get(server[1] if server else 0, app)(scope, receive, send)

    return answer


def _application(routes: list[tuple[Access, Route]], service: Service) -> Starlette:
    app = Starlette(
        routes=[route for _, route in routes],
        middleware=[
            Middleware(
                Envelope,
                drain_timeout_s=service.limits.drain_timeout_s,
                observer=service.observer,
            ),
            Middleware(CrossOrigin, origins=service.origins),
            Middleware(
                Gate,
                routes=routes,
                keyring=service.keyring,
                origins=service.origins,
                allow_anonymous=service.allow_anonymous,
            ),
        ],
        exception_handlers={ApiError: _on_api_error, HTTPException: _on_http_exception},
    )
    # A redirect would be built from the Host header, which is the client's to choose.
    app.router.redirect_slashes = False
    app.state.service = service
    return app


class Envelope:
    """Gives every exchange an id, an answer in OpenAI's shape, and a body read to its end."""

    def __init__(self, app: ASGIApp, drain_timeout_s: float, observer: Observer) -> None:
        self._app = app
        self._drain_timeout_s = drain_timeout_s
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one exchange; other scopes pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._drain_timeout_s)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception:
            where = logs.fields(request_id=exchange.request_id, path=scope["path"])
            logger.exception("request failed", extra=where)
            if not exchange.is_started:
                error = ApiError(500, "The server failed on this request.", code="internal_error")
                refusal = exchange_context(scope).refusal(error)
                await refusal(scope, exchange.receive, exchange.send)
        finally:
            exchange.close()
            self._observer.note_exchange(exchange.record())


class _Exchange:
    """One request and its response, as they pass.

    An answer that comes before the end of the body must still read it: Hypercorn 0.18 queues ten
    pieces of a body and then blocks, so the answer's own end would wait for ever; and a connection
    closed on unread bytes is reset, which can cost the client the answer.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, drain_timeout_s: float) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id", b"").decode("latin-1"))
        self._context = ExchangeContext(request_id, error_form_of(scope["path"], headers))
        self._context.put_in(scope)
        self._traceparent = headers.get(b"traceparent", b"").decode("latin-1")
        self.is_started = False
        self._started_s = time.monotonic()
        self._status = 499  # until an answer begins
        self._ignored = ""
        self._user_agent = headers.get(b"user-agent", b"").decode("latin-1")
        self._scope = scope
        self._receive = receive
        self._send = send
        self._drain_timeout_s = drain_timeout_s
        self._drain: asyncio.Task[None] | None = None
        self._is_body_read = (
            b"transfer-encoding" not in headers and headers.get(b"content-length", b"0") == b"0"
        )

    @property
    def request_id(self) -> str:
        return self._context.request_id

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_body_read = True
        return message

    async def send(self, message: Message) -> None:
        if not self.is_started:
            self.is_started = True
            self._status = message["status"]
            self._ignored = _value(message["headers"], IGNORED_FIELDS)
            message = self._with_headers(message)
            if not self._is_body_read:
                self._drain = asyncio.create_task(self._read_rest())
        elif self._drain is not None and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await asyncio.wait((self._drain,), timeout=self._drain_timeout_s)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    def close(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        if self._context.body is not None:
            self._context.body.release()

    def record(self) -> Exchange:
        """Return what observers are told of this exchange."""
        scope, context = self._scope, self._context
        route, tenant, generation = scope.get("route"), context.tenant, context.generation
        error, client = context.error, scope.get("client")
        return Exchange(
            scope["method"] if scope["method"] in METHODS else "other",
            route.path if isinstance(route, Route) else NO_ROUTE,
            self._status,
            self.request_id,
            tenant.id if tenant is not None else "",
            self._started_s,
            time.monotonic(),
            generation.report() if generation is not None else None,
            self._traceparent,
            path=scope["path"],
            ignored_fields=self._ignored,
            refusal=None
            if error is None
            else Refusal(error.code or "", error.param or "", error.message),
            client=str(client[0]) if client else "",
            user_agent=self._user_agent,
        )

    def _with_headers(self, message: Message) -> Message:
        request_id = (b"x-request-id", self.request_id.encode())
        headers = [*message["headers"], *self._context.headers, request_id]
        if id_header := self._context.error_form.id_header:
            headers.append((id_header.encode(), self.request_id.encode()))
        if not self._is_body_read:
            headers.append((b"connection", b"close"))
        return {**message, "headers": headers}

    async def _read_rest(self) -> None:
        while not self._is_body_read:
            await self.receive()


def _value(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == wanted), "")


def _request_id(given: str) -> str:
    """Return a request's own id if it is harmless in a header and a log, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else f"req-{secrets.token_hex(16)}"


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return exchange_context(request.scope).refusal(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted({*headers["Allow"].split(", "), "OPTIONS"}))
    if request.method == "OPTIONS":
        if request.scope["path"] == "*":
            headers["Allow"] = SERVED_METHODS
        if "Allow" in headers:
            return Response(status_code=204, headers=headers)
    what = f"{request.method} {request.scope['path']}"
    known = {
        404: ApiError(404, f"Unknown URL: {what}.", code="unknown_url"),
        405: ApiError(405, f"Method not allowed: {what}.", code="method_not_allowed"),
    }
    fallback = ApiError(error.status_code, error.detail)
    refused = known.get(error.status_code, fallback)
    return exchange_context(request.scope).refusal(refused, headers)
