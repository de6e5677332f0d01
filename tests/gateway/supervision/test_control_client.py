"""Questions to a supervisor that is only a socket."""

import asyncio
from pathlib import Path

import pytest

from gateway.supervision.control_client import (
    ControlClient,
    ControlUnavailable,
    OperationRefused,
)
from gateway.supervision.control_messages import Add, Done, OperationProgress, Remove, encode
from tests.gateway.supervision.test_control_socket import LISTING, serving


async def test_listing_and_refusals_come_through(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serving(path):
        client = ControlClient(path)
        assert await client.listing() == LISTING
        with pytest.raises(OperationRefused, match="there is no group 3"):
            await client.carry_out(Remove(3))


async def test_outcome_comes_after_progress(tmp_path: Path) -> None:
    replies = [OperationProgress("group 2 starts"), Done("group 2 serves", 2)]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == encode(Add("batch")) + b"\n"
        writer.write(b"".join(encode(reply) + b"\n" for reply in replies))
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "s"):
        client = ControlClient(tmp_path / "s")
        assert await client.carry_out(Add("batch")) == replies[1]
        del replies[1]
        with pytest.raises(ControlUnavailable, match="the supervisor has gone"):
            await client.carry_out(Add("batch"))


async def test_missing_socket_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ControlUnavailable, match="nowhere: No such file"):
        await ControlClient(tmp_path / "nowhere").listing()
