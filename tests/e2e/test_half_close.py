"""Clients that say all and close their sending side, as `nc -N` and Go's CloseWrite do."""

import json
import socket
from collections.abc import Iterator

import pytest

from tests.e2e.clients import TIMEOUT_S, is_idle
from tests.e2e.crowd import FREED_SECONDS, SLOW_SEED
from tests.e2e.server import Server, wait_until

pytestmark = pytest.mark.e2e

NUM_TOKENS = 300


def asked(
    server: Server, *, stream: bool, max_tokens: int = NUM_TOKENS, seed: int = 0
) -> socket.socket:
    """A connection on which a completion has been asked for."""
    fields = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": max_tokens, "seed": seed}
    body = json.dumps(fields | {"stream": stream, "ignore_eos": True}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    sock = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)
    sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def pieces(sock: socket.socket) -> Iterator[bytes]:
    while piece := sock.recv(1 << 16):
        yield piece


@pytest.mark.parametrize("stream", [False, True])
def test_half_closed_client_gets_all_of_its_answer(tiny_server: Server, stream: bool) -> None:
    """A stream got its head, 279 bytes, and then nothing."""
    with asked(tiny_server, stream=stream) as sock:
        sock.shutdown(socket.SHUT_WR)
        received = b"".join(pieces(sock))
    head, _, body = received.partition(b" 200 OK\r\n" if b" 200 OK" in received else b" 200 ")
    assert head.endswith(b"HTTP/1.1")
    if stream:
        assert body.count(b'"text"') >= 1 and b"data: [DONE]\n\n" in body
        assert body.endswith(b"0\r\n\r\n")
    else:
        answer = json.loads(body.partition(b"\r\n\r\n")[2])
        assert answer["usage"]["completion_tokens"] == NUM_TOKENS


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_half_closed_and_left_frees_blocks(slow_server: Server, stream: bool) -> None:
    with asked(slow_server, stream=stream, max_tokens=12_000, seed=SLOW_SEED) as sock:
        sock.shutdown(socket.SHUT_WR)
        if stream:
            sock.recv(1)
        wait_until(lambda: not is_idle(slow_server.url), 60, "it runs")
    wait_until(lambda: is_idle(slow_server.url), FREED_SECONDS, "its blocks are free")
