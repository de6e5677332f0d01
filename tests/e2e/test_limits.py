"""What clients may do to connections and bodies, on a real server, in bytes."""

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from gateway.security.key_file import add_key
from gateway.security.keys import create_key
from gateway.tenant import KeyScope
from tests.e2e.server import Server, wait_until
from tests.e2e.steady import steadily

pytestmark = pytest.mark.e2e

TIMEOUT_S = 60.0
BODY_TIMEOUT_S = 1.0
SEND_TIMEOUT_S = 1.0
MAX_CONNECTIONS = 64
# A head may take 10 s; a connection on which nothing comes, longer than this.
DRIP_SECONDS = 60.0
CHUNKED = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
PLAIN = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


@dataclass(frozen=True)
class Keys:
    """A file of API keys, one that may have one request at a time, and one that may have many."""

    path: Path
    narrow: str
    wide: str


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    narrow, kept = create_key("", [KeyScope.INFER], max_requests=1)
    add_key(path, kept)
    wide, kept = create_key("", [KeyScope.INFER])
    add_key(path, kept)
    return Keys(path, narrow, wide)


@pytest.fixture(scope="module")
def limited(tiny_model: Path, keys: Keys) -> Iterator[Server]:
    """Keys, so that there are 401s; little time and few connections, so that tests are short."""
    arguments: list[object] = ["--api-keys", keys.path, "--max-connections", MAX_CONNECTIONS]
    arguments += ["--body-timeout-s", BODY_TIMEOUT_S, "--send-timeout-s", SEND_TIMEOUT_S]
    with Server(tiny_model, *map(str, arguments)) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def dripping(tiny_server: Server) -> Iterator[tuple[socket.socket, float]]:
    """A connection whose request does not come, and since when; its time passes meanwhile."""
    with connected(tiny_server) as sock:
        sock.sendall(PLAIN)
        yield sock, time.monotonic()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)


def answer(sock: socket.socket) -> bytes:
    """Everything until the server closes; a reset counts as that once something came."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(1 << 16):
            received += piece
    return received


def exchange(server: Server, request: bytes) -> bytes:
    with connected(server) as sock:
        sock.sendall(request)
        return answer(sock)


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1]) if received else 0


SMUGGLING = {
    "length and chunks": CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": PLAIN + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "list of lengths": PLAIN + b"Content-Length: 3, 4\r\n\r\nabcd",
    "negative length": PLAIN + b"Content-Length: -1\r\n\r\n",
    "signed length": PLAIN + b"Content-Length: +4\r\n\r\nabcd",
    "odd coding": PLAIN + b"Transfer-Encoding: identity\r\n\r\n",
    "two codings": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding with a tab": PLAIN + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST /livez HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "blank before the colon": PLAIN + b"Content-Length : 4\r\n\r\nabcd",
    "fold at the start": b"GET /livez HTTP/1.1\r\n Host: x\r\n\r\n",
    "NUL in a header": PLAIN + b"X: a\0b\r\n\r\n",
    "bare CR in a header": PLAIN + b"X: a\rY: b\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "two hosts": PLAIN + b"Host: y\r\n\r\n",
    "blank in the target": b"GET /livez /x HTTP/1.1\r\nHost: x\r\n\r\n",
    "chunk size that is none": CHUNKED + b"\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "chunk size of 17 digits": CHUNKED + b"\r\n" + b"1" * 21 + b"\r\nabc",
    "chunk extension without end": CHUNKED + b"\r\n1;" + b"a" * 200_000,
    "chunk without its line end": CHUNKED + b"\r\n1\r\nabX\r\n0\r\n\r\n",
    "trailers without end": CHUNKED + b"\r\n0\r\n" + b"a: b\r\n" * 40_000,
    "head without end": PLAIN + b"X: " + b"a" * 200_000,
    "too many headers": PLAIN + b"".join(b"X%d: y\r\n" % n for n in range(101)) + b"\r\n",
    "target of 9 KB": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 in clear text": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "HTTP/3.0": b"GET /livez HTTP/3.0\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\r\n" * 8,
}


@pytest.mark.parametrize("request_bytes", SMUGGLING.values(), ids=SMUGGLING)
def test_ambiguous_request_is_refused_once_and_the_line_cut(
    limited: Server, request_bytes: bytes
) -> None:
    # What follows would be answered with 200 if it were taken for a request of its own.
    received = exchange(limited, request_bytes + b"\r\n" + PLAIN + b"\r\n")
    assert b" 200 " not in received
    assert received.count(b"HTTP/1.1 ") <= 2 and b"HTTP/2" not in received
    assert status(received) in (0, 400, 401, 408, 414, 431, 501, 505)


def test_upgrades_are_ignored(limited: Server) -> None:
    for protocol in (b"h2c", b"websocket"):
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: " + protocol + b"\r\n"
        upgrade += b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Version: 13\r\n"
        received = exchange(limited, PLAIN + upgrade + b"Sec-WebSocket-Key: eA==\r\n\r\n")
        assert status(received) == 200 and b"HTTP/1.1 101" not in received


def test_bare_line_feeds_and_folds_have_one_meaning(limited: Server) -> None:
    for head in (b"GET /livez HTTP/1.1\nHost: x\n", PLAIN + b"X: a\r\n b\r\n"):
        received = exchange(limited, head + b"Connection: close\r\n\r\n")
        assert status(received) == 200 and received.count(b"HTTP/1.1") == 1


@pytest.fixture(scope="module")
def worker(limited: Server) -> int:
    """The pid of the process that holds the connections."""
    return limited.processes["unisono: worker 0"]


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def open_files(pid: int) -> set[str]:
    """What the descriptors of a process stand for, as ``socket:[inode]`` for a connection."""
    files = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # One may have been closed since the directory was read.
        with contextlib.suppress(FileNotFoundError):
            files.add(os.readlink(link))
    return files


def inode_of_other_end(sock: socket.socket) -> int:
    """The inode of the socket at the server's end of a connection over 127.0.0.1."""
    ours, theirs = f":{sock.getsockname()[1]:04X}", f":{sock.getpeername()[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (inode,) = (int(row[9]) for row in rows if row[1].endswith(theirs) and row[2].endswith(ours))
    return inode


def head(path: str, length: int, key: str = "", more: str = "") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}"]
    lines += [f"Authorization: Bearer {key}"] * bool(key)
    lines += [more] * bool(more)
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.contextmanager
def held_turn(server: Server, keys: Keys) -> Iterator[None]:
    """Have the one request that the narrow key may have be read, of a body that does not come.

    Its turn has come once another of the same key gets 429 instead of 404. A busy machine may let
    the second that it may take pass in between: then another takes its turn.
    """
    probe = head("/none", 0, keys.narrow, "Connection: close")
    for _ in range(20):
        with connected(server) as holder:
            holder.sendall(head("/v1/completions", 100, keys.narrow))
            while not select.select([holder], [], [], 0)[0]:
                if status(exchange(server, probe)) == 429:
                    yield
                    return
    raise AssertionError("no request of 20 was seen to be read")


def test_refusals_of_large_bodies_arrive_and_leak_nothing(
    limited: Server, worker: int, keys: Keys
) -> None:
    wait_until(
        lambda: exchange(limited, PLAIN + b"Connection: close\r\n\r\n") != b"", 60, "it serves"
    )
    before = descriptors(worker)
    size = 50 * 2**20
    block = b"x" * 2**20

    def refused(path: str, key: str, expected: tuple[int, ...]) -> None:
        with connected(limited) as sock:
            sock.sendall(head(path, size, key))
            with contextlib.suppress(ConnectionError):
                for _ in range(50):
                    sock.sendall(block)
            assert status(answer(sock)) in expected

    with held_turn(limited, keys):
        for path, key, expected in (
            ("/v1/completions", "", (401,)),
            ("/v1/completions", keys.narrow, (429, 413)),
            ("/none", keys.narrow, (429, 404)),
        ):
            # The server waits for a body that nobody will read, but not for ever.
            steadily(partial(refused, path, key, expected))
    wait_until(lambda: descriptors(worker) <= before, 60, "the connections are gone")


def test_body_that_does_not_come_is_a_408(limited: Server, keys: Keys) -> None:
    started = time.monotonic()
    received = exchange(limited, head("/v1/completions", 100, keys.narrow) + b"{")
    assert status(received) == 408
    # The default is 30 s.
    assert BODY_TIMEOUT_S <= time.monotonic() - started < 25


def test_connections_beyond_the_limit_are_told_so(limited: Server) -> None:
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connected(limited)) for _ in range(MAX_CONNECTIONS)]
        refused = exchange(limited, PLAIN + b"\r\n")
        assert status(refused) == 503 and b"retry-after" in refused
        kept[0].sendall(PLAIN + b"Connection: close\r\n\r\n")
        assert status(answer(kept[0])) == 200
    request = PLAIN + b"Connection: close\r\n\r\n"
    wait_until(lambda: status(exchange(limited, request)) == 200, 60, "there is room again")


def large_answer(server: Server, keys: Keys) -> socket.socket:
    """A connection on which 9 MB are on their way, to somebody who has read but the status."""
    body = json.dumps({"prompt": "a b " * 500_000, "return_token_strs": True}).encode()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sock.settimeout(TIMEOUT_S)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(head("/tokenize", len(body), keys.wide) + body)
    assert status(sock.recv(20)) == 200
    return sock


def test_answer_nobody_reads_is_given_up(limited: Server, worker: int, keys: Keys) -> None:
    def read_nothing() -> None:
        with large_answer(limited, keys) as sock:
            other_end = f"socket:[{inode_of_other_end(sock)}]"
            assert other_end in open_files(worker)
            wait_until(lambda: other_end not in open_files(worker), 60, "its connection is gone")

    steadily(read_nothing)


def test_slow_reader_gets_everything(limited: Server, keys: Keys) -> None:
    """It was cut off: what it took made room in the kernel's buffer, of which a third must be free
    before the kernel takes any more from us."""

    def read_slowly() -> None:
        with large_answer(limited, keys) as sock:
            size = 20
            # Its slowness is what is tested: 300 KB/s at most, for longer than it may take nothing.
            slow_until = time.monotonic() + 2.5 * SEND_TIMEOUT_S
            while time.monotonic() < slow_until:
                size += len(sock.recv(3_000))
                time.sleep(0.01)
            while size < 9_000_000:
                piece = sock.recv(1 << 20)
                assert piece
                size += len(piece)

    steadily(read_slowly)


def test_head_that_drips_is_cut_off(dripping: tuple[socket.socket, float]) -> None:
    """The last test here: most of what the head may take is over by now."""
    sock, started = dripping
    sock.settimeout(max(1.0, started + DRIP_SECONDS - time.monotonic()))
    assert status(answer(sock)) == 408
