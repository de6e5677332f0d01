"""The control socket itself: who may connect, what is answered, and that it never harms serving."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import ServerSettings
from gateway.supervision.control_messages import (
    DrainGroup,
    List,
    Listing,
    LogLine,
    Logs,
    OperationProgress,
    Refused,
    Reply,
    decode_reply,
    encode,
)
from gateway.supervision.control_socket import (
    ControlSocket,
    check_directory,
    control_path,
    is_alive,
    runtime_directory,
)
from gateway.supervision.operations import Operations
from gateway.supervision.recent_lines import RecentLines
from gateway.supervision.state_changes import StateChanges

LISTING = Listing("http://127.0.0.1:1", 1, [], [])


class NoGroups:
    """A supervisor with nothing in it."""

    def __init__(self) -> None:
        self.groups: dict[int, Any] = {}
        self.recent = RecentLines()
        self.operations = Operations(self, self, StateChanges())  # type: ignore[arg-type]
        self.socket = ControlSocket(self.operations, lambda: LISTING, self.recent)


async def exchange(path: Path, line: bytes) -> list[Reply]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(line + b"\n")
    replies = [decode_reply(answer) async for answer in reader]
    writer.close()
    return replies


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[NoGroups]:
    world = NoGroups()
    await world.socket.open(path)
    try:
        yield world
    finally:
        world.socket.close()


async def test_socket_is_the_owner_s_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "unisono" / "8000.sock"

    async with serving(path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert await exchange(path, encode(List())) == [LISTING]

    assert not path.exists()


async def test_nonsense_and_impossible_wishes_are_refused_in_words(tmp_path: Path) -> None:
    async with serving(tmp_path / "s"):
        [refused] = await exchange(tmp_path / "s", b"hello")
        assert isinstance(refused, Refused) and refused.text.startswith("not a request")
        [refused] = await exchange(tmp_path / "s", encode(DrainGroup(3)))
        assert refused == Refused("there is no group 3; there are: none")
        with contextlib.suppress(ConnectionError):
            assert await exchange(tmp_path / "s", b"x" * (2 << 20)) == []
        assert await exchange(tmp_path / "s", encode(List())) == [LISTING]


async def test_log_is_shown_and_followed(tmp_path: Path) -> None:
    logger = logging.Logger("test")

    async with serving(tmp_path / "s") as world:
        logger.addHandler(world.recent)
        logger.warning("before")
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(encode(Logs(follow=True)) + b"\n")
        assert decode_reply(await reader.readline()) == LogLine("before")
        await asyncio.sleep(0)
        logger.warning("after")
        assert decode_reply(await reader.readline()) == LogLine("after")
        writer.close()
        await writer.wait_closed()
        assert not isinstance(
            (await exchange(tmp_path / "s", encode(Logs())))[0], OperationProgress
        )


async def test_socket_of_a_killed_server_alone_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, stale, other = tmp_path / "1.sock", tmp_path / "2.sock", tmp_path / "3.sock"
    for dead in (path, stale):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(dead))
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(other))
        living.listen()

        async with serving(path):
            assert is_alive(path) and not stale.exists() and is_alive(other)
            second = NoGroups()
            await second.socket.open(path)
            assert "no control socket" in caplog.text and "in use" in caplog.text
            second.socket.close()
            assert is_alive(path)


async def test_path_that_cannot_be_is_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path / ("x" * 120) / "s"):
        assert "no control socket" in caplog.text


def test_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError):
        check_directory(tmp_path)
    tmp_path.chmod(0o1777)
    check_directory(tmp_path)


def test_default_path_is_named_after_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert control_path(ServerSettings(), 81) == Path("/run/user/7/unisono/81.sock")
    assert control_path(ServerSettings(control_socket="/a/b"), 81) == Path("/a/b")
    assert runtime_directory({"RUNTIME_DIRECTORY": "/run/x:/run/y"}) == Path("/run/x")
    assert runtime_directory({}).name.startswith("unisono")
