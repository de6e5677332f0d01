"""One HTTP/1.1 request on a connection of its own, at little cost.

The client shares the cores with the server that it measures: so a bare asyncio protocol instead of
an HTTP library. Speaks what servers of this API send (chunked, counted or ended by EOF) and nothing
more. Knows nothing of events and JSON; gateway/bench/client.py does.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

_STREAMED_TYPES = ("text/event-stream", "application/x-ndjson")
TRUST_HINT = "SSL_CERT_FILE=its.pem trusts a certificate of one's own"


class BenchError(Exception):
    """The measurement cannot begin; the message says what the server answered, or did not."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server listens. prefix: what its paths begin with, without a final slash.

    api_key: sent with every request, if there is one.
    """

    host: str
    port: int
    prefix: str = ""
    is_tls: bool = False
    api_key: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, api_key: str = "") -> "Target":
        """Read `http://host:port/prefix`; a final /v1 is taken off. Raises BenchError."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError as error:
            raise BenchError(f"{url} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BenchError(f"{url} is not the URL of a server, such as http://127.0.0.1:8000")
        is_tls = parts.scheme == "https"
        prefix = parts.path.rstrip("/").removesuffix("/v1")
        return cls(parts.hostname, port or (443 if is_tls else 80), prefix, is_tls, api_key)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class StreamedRequest(asyncio.Protocol):
    """A request and its answer. `status` is 0 until the head of the answer has come.

    feed: gets an event stream's bytes as they come and says when it has seen the last event; the
    body of any other answer is collected in `body`.
    """

    def __init__(self, request: bytes, feed: Callable[[bytes], bool]) -> None:
        self.status = 0
        self.body = bytearray()
        self.is_stream = False
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._feed = feed
        self._rest = b""
        self._is_chunked = False
        self._length: int | None = None

    async def perform(self, target: Target, timeout_s: float) -> None:
        """Connect, send, and return when the answer is complete.

        Raises TimeoutError, other OSErrors of the connection, and ValueError for what is no HTTP
        or no whole stream. The connection is closed in any case.
        """
        context = ssl.create_default_context() if target.is_tls else None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            transport, _ = await loop.create_connection(
                lambda: self, target.host, target.port, ssl=context
            )
            try:
                await self._finished
            finally:
                transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request (asyncio's call)."""
        # A cast, not an assertion: uvloop's transports are no subclasses of asyncio's.
        cast(asyncio.WriteTransport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take what has come (asyncio's call)."""
        if self._finished.done():
            return
        try:
            is_complete = self._take_body(data) if self.status else self._take_head(data)
        except ValueError as error:
            self._finished.set_exception(error)
        else:
            if is_complete:
                self._finished.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Decide whether the answer was whole (asyncio's call)."""
        if self._finished.done():
            return
        ends_with_eof = self.status and not self._is_chunked and self._length is None
        if ends_with_eof and not self.is_stream and exc is None:
            self._finished.set_result(None)
        else:
            cause = exc or ConnectionError("the server closed the connection early")
            self._finished.set_exception(cause)

    def _take_head(self, data: bytes) -> bool:
        head, end, body = (self._rest + data).partition(b"\r\n\r\n")
        if not end:
            self._rest = head
            return False
        self._rest = b""
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1."):
            raise ValueError(f"no HTTP/1.1 answer but {first[:40]!r}")
        self.status = int(first.split()[1])
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self._is_chunked = "chunked" in headers.get("transfer-encoding", "")
        self._length = int(headers["content-length"]) if "content-length" in headers else None
        is_events = headers.get("content-type", "").startswith(_STREAMED_TYPES)
        self.is_stream = is_events and self.status == 200
        return self._take_body(body)

    def _take_body(self, data: bytes) -> bool:
        is_last = False
        if self._is_chunked:
            data, is_last = self._unchunked(data)
        if not self.is_stream:
            self.body += data
            return is_last or len(self.body) == self._length
        if self._feed(data):
            return True
        if is_last:
            raise ValueError("the stream ended without [DONE]")
        return False

    def _unchunked(self, data: bytes) -> tuple[bytes, bool]:
        """Return the whole chunks in what has come so far, and whether the last one came."""
        data = self._rest + data
        chunks: list[bytes] = []
        start = 0
        is_last = False
        while not is_last and (line_end := data.find(b"\r\n", start)) >= 0:
            size = int(data[start:line_end].partition(b";")[0], 16)
            end = line_end + 2 + size
            if len(data) < end + 2:
                break
            chunks.append(data[line_end + 2 : end])
            start = end + 2
            is_last = size == 0
        self._rest = data[start:]
        return b"".join(chunks), is_last


def request_bytes(target: Target, method: str, path: str, body: bytes = b"") -> bytes:
    """Compose a request that asks for the connection to be closed after its answer."""
    authorization = f"Authorization: Bearer {target.api_key}\r\n" if target.api_key else ""
    head = (
        f"{method} {target.prefix}{path} HTTP/1.1\r\nHost: {target}\r\n"
        "Content-Type: application/json\r\nAccept: text/event-stream, application/json\r\n"
        f"{authorization}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
