"""A link that is cut between two network namespaces: both ends notice, though nobody says so."""

import contextlib
import ctypes
import os
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from backend.wire.channel import ChannelBroken, PeerGone
from backend.wire.tcp.sockets import configure, create_listener
from backend.wire.tcp.stream import Stream

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="network namespaces need root and ip",
    ),
]

CLONE_NEWNET = 0x40000000
HERE, THERE = "10.213.47.1", "10.213.47.2"
PROMISED_SECONDS = 11.0


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Link:
    """A veth pair, one end of it in a namespace of its own."""

    def __init__(self) -> None:
        self.namespace = f"unisono-{os.getpid()}"
        self._ends = f"uni{os.getpid() % 10_000}a", f"uni{os.getpid() % 10_000}b"

    def __enter__(self) -> "Link":
        near, far = self._ends
        ip("netns", "add", self.namespace)
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.namespace)
        ip("addr", "add", f"{HERE}/24", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", self.namespace, "addr", "add", f"{THERE}/24", "dev", far)
        ip("-n", self.namespace, "link", "set", far, "up")
        return self

    def __exit__(self, *failure: object) -> None:
        for arguments in (("link", "del", self._ends[0]), ("netns", "del", self.namespace)):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip(*arguments)

    def cut(self) -> None:
        ip("-n", self.namespace, "link", "set", self._ends[1], "down")

    def dial(self, port: int) -> socket.socket:
        """Connect from the other namespace."""
        made: list[socket.socket] = []

        def connect() -> None:
            # Only this thread moves; the socket stays where it was made.
            with open(f"/run/netns/{self.namespace}") as namespace:
                assert ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) == 0
            made.append(socket.create_connection((HERE, port), 5))

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
        return made[0]


@pytest.fixture
def link() -> Iterator[Link]:
    try:
        with Link() as link:
            yield link
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made: {error.stderr!r}")


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "busy"])
def test_cut_link_is_noticed_within_the_promise(link: Link, *, is_busy: bool) -> None:
    with create_listener(HERE) as listener:
        listener.listen()
        dialled = link.dial(listener.getsockname()[1])
        accepted, _ = listener.accept()
    ends = []
    for sock in (accepted, dialled):
        configure(sock)
        ends.append(Stream(sock))
    link.cut()
    begun_s = time.monotonic()
    open_ends = list(ends)
    while open_ends:
        assert time.monotonic() - begun_s < PROMISED_SECONDS, "somebody still waits"
        select.select(open_ends, [], [], 0.1)
        for end in list(open_ends):
            try:
                end.receive()
                if is_busy:
                    end.send(memoryview(b"token"))
            except PeerGone:
                raise AssertionError("nobody has died") from None
            except ChannelBroken:
                open_ends.remove(end)
                end.close()
