"""The clients of these tests: openai's, the standard library's, and a bare socket.

The socket shows the bytes that a server really sends and can hang up at any moment. Must not know
what an answer means.
"""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai

TIMEOUT_S = 180.0


def openai_client(url: str) -> openai.OpenAI:
    """The official client, without the retries that would hide a failure."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=TIMEOUT_S)


def async_openai_client(url: str) -> openai.AsyncOpenAI:
    """The same for asyncio."""
    return openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=TIMEOUT_S
    )


def request(
    url: str, method: str, path: str, body: bytes | None = None
) -> tuple[int, dict[str, str], Any]:
    """Send one request; return status, headers (lower case) and the decoded JSON body."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, json.loads(response.read())
    finally:
        connection.close()


def post(url: str, path: str, **fields: Any) -> tuple[int, Any]:
    """Send a JSON body; return status and answer."""
    status, _, answer = request(url, "POST", path, json.dumps(fields).encode())
    return status, answer


def metrics(url: str) -> dict[str, float]:
    """Scrape /metrics once, on a connection of its own: series -> value."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics", headers={"connection": "close"})
        lines = connection.getresponse().read().decode().splitlines()
    finally:
        connection.close()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {series: float(value) for series, value in pairs}


def free_blocks(url: str) -> tuple[int, int]:
    """Free and all KV blocks of the first group, as /health tells."""
    _, _, health = request(url, "GET", "/health")
    return health["groups"][0]["free_blocks"], health["groups"][0]["total_blocks"]


def is_idle(url: str) -> bool:
    """Whether the first group holds no KV block."""
    free, total = free_blocks(url)
    return free == total > 0


class RawStream:
    """A streamed completion on a socket of its own. Leaving the context hangs up."""

    def __init__(self, url: str, body: dict[str, Any], key: str = "") -> None:
        """Send the request and read the head of the answer."""
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        payload = json.dumps({"stream": True, **body}).encode()
        self._socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        access = f"Authorization: Bearer {key}\r\n".encode() if key else b""
        self._socket.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            + b"Content-Type: application/json\r\n"
            + access
            + b"Content-Length: %d\r\n\r\n" % len(payload)
            + payload
        )
        head = []
        while line := self._file.readline().rstrip(b"\r\n"):
            head.append(line.decode())
        self.status = int(head[0].split()[1])
        self.headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:])
        }
        self._rest = b""

    def __enter__(self) -> "RawStream":
        return self

    def __exit__(self, *failure: object) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes, chunk by chunk.

        Raises ConnectionError if the connection ends before the body does.
        """
        assert self.status == 200, "a refusal is no stream"
        while True:
            size_line = self._file.readline()
            if not size_line:
                raise ConnectionError("the body was cut off")
            size = int(size_line, 16)
            data = self._file.read(size + 2)
            assert data[size:] == b"\r\n"
            if size == 0:
                return
            yield data[:size]

    def events(self) -> Iterator[bytes]:
        """Yield every event without its blank line."""
        for piece in self.pieces():
            *events, self._rest = (self._rest + piece).split(b"\n\n")
            yield from events

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Yield the JSON of every event; neither pings nor [DONE]."""
        for event in self.events():
            if event.startswith(b"data: {"):
                yield json.loads(event.removeprefix(b"data: "))
