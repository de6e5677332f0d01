"""Takeoff's management API over a supervisor that only answers."""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.app import by_port, create_management_app
from gateway.security.key_file import add_key
from gateway.security.keyring import Keyring
from gateway.security.keys import create_key
from gateway.supervision.control_client import (
    ControlClient,
    ControlUnavailable,
    OperationRefused,
)
from gateway.supervision.control_messages import (
    Add,
    Done,
    GroupView,
    Listing,
    Operation,
    RankView,
    Remove,
)
from gateway.tenant import KeyScope
from tests.gateway.fakes import Exchange, FakePool, make_service

# What langchain-community's tests send, but for the number of ranks.
READER = {
    "model_name": "tiny",
    "device": "cpu",
    "consumer_group": "batch",
    "max_sequence_length": 512,
    "max_batch_size": 4,
    "tensor_parallel": 2,
}


def group(number: int, name: str, state: str = "ready") -> GroupView:
    rank = RankView(0, 70 + number, "idle", 1, 0.0, 10, 1, "cpu")
    return GroupView(number, state, 1, 0, 1, 2, 9, 10, [rank], None, name, tp=1, max_num_seqs=128)


class FakeControl:
    """A supervisor's answers. trouble: raised by operations, or at once."""

    def __init__(self) -> None:
        self.groups = [group(0, "primary"), group(1, "batch", "loading")]
        self.asked: list[Operation] = []
        self.refusal = ""
        self.is_gone = False

    async def listing(self) -> Listing:
        if self.is_gone:
            raise ControlUnavailable("/run/unisono/1.sock: No such file or directory")
        return Listing("http://127.0.0.1:1", 1, self.groups, [])

    async def carry_out(self, operation: Operation) -> Done:
        self.asked.append(operation)
        if self.refusal:
            raise OperationRefused(self.refusal)
        match operation:
            case Add(name=name):
                self.groups.append(group(2, name or "primary"))
                return Done("group 2 serves", 2)
        return Done("done")


def management(control: FakeControl, keyring: Keyring | None = None) -> ASGIApp:
    service = make_service(FakePool(), keyring=keyring)
    return create_management_app(service, cast(ControlClient, control), 30.0)


async def ask(
    method: str, path: str, control: FakeControl | None = None, body: Any = None
) -> Exchange:
    app = management(control or FakeControl())
    data = b"" if body is None else msgspec.json.encode(body)
    return await Exchange(app, method, path, data).finished()


async def test_readers_are_listed_by_group() -> None:
    groups = (await ask("GET", "/reader_groups")).json
    assert [reader["reader_id"] for reader in groups["batch"]] == ["1"]
    [reader] = groups["primary"]
    assert reader == {
        "reader_id": "0",
        "consumer_group": "primary",
        "model_name": "tiny",
        "model_type": "generate",
        "max_sequence_length": 1000,
        "ready": True,
        "running": 1,
        "waiting": 2,
        "state": "ready",
        "tensor_parallel": 1,
        "max_batch_size": 128,
        "device": "cpu",
        "pids": [70],
    }
    assert (await ask("GET", "/status")).json == {"live_readers": {"0": reader}}
    assert (await ask("GET", "/config/0")).json == reader
    assert (await ask("GET", "/config/9")).status == 404
    assert (await ask("GET", "/metrics")).status == 200
    assert (await ask("GET", "/healthz")).status == 200
    assert (await ask("POST", "/generate")).status == 404, "that is another port's"


async def test_reader_is_a_group_that_is_added() -> None:
    control = FakeControl()
    exchange = await ask("POST", "/reader", control, READER)
    assert exchange.status == 201
    assert (exchange.json["reader_id"], exchange.json["consumer_group"]) == ("2", "batch")
    assert control.asked == [Add("batch", 2, (), 4)]
    gpus = {"model_name": "org/tiny", "cuda_visible_devices": "2, 3", "page_cache_size": "90%"}
    await ask("POST", "/reader", control, gpus)
    assert control.asked[1] == Add(None, 0, ("cuda:2", "cuda:3"), 0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_name": "other"}, "serves 'tiny', 'org/tiny', and no other model: 'other'"),
        ({"model_name": "primary"}, "no other model: 'primary'"),
        ({"device": "cuda"}, "readers compute on cpu here, not on cuda"),
        ({"device": "api"}, "not on api"),
        ({"max_sequence_length": 1001}, "1001 is more than the 1000 tokens"),
        ({"tensor_parallel": 0}, "'tensor_parallel'"),
        ({"consumer_group": "a b"}, "'consumer_group'"),
        ({"cuda_visible_devices": "x"}, "'cuda_visible_devices'"),
    ],
)
async def test_reader_that_cannot_be_here_is_refused(fields: dict[str, Any], words: str) -> None:
    control = FakeControl()
    exchange = await ask("POST", "/reader", control, {**READER, **fields})
    assert exchange.status == 400 and words in exchange.json["error"], exchange.body
    assert not control.asked


async def test_reader_that_does_not_start_says_why() -> None:
    control = FakeControl()
    control.refusal = "group 2 is given up: out of memory"
    exchange = await ask("POST", "/reader", control, READER)
    assert exchange.status == 400
    assert exchange.json["error"] == "group 2 is given up: out of memory."


async def test_deleted_reader_is_drained_within_the_servers_time() -> None:
    control = FakeControl()
    exchange = await ask("DELETE", "/reader/1", control)
    assert (exchange.status, exchange.body) == (204, b"")
    assert control.asked == [Remove(1, 30.0)]
    for unknown in ("7", "batch"):
        exchange = await ask("DELETE", f"/reader/{unknown}", control)
        assert exchange.status == 404
        assert exchange.json["error"] == f"There is no reader '{unknown}'; there are: '0', '1'."


async def test_supervisor_that_cannot_be_asked_is_a_503() -> None:
    control = FakeControl()
    control.is_gone = True
    exchange = await ask("GET", "/reader_groups", control)
    assert exchange.status == 503 and "1.sock" in exchange.json["error"]


async def test_managing_takes_an_admins_key_or_sitting_here(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    keys = {}
    for scope in (KeyScope.INFER, KeyScope.ADMIN):
        keys[scope], kept = create_key("", [scope])
        add_key(path, kept)
    keyring = Keyring(path)
    keyring.reload()

    async def status(keyring: Keyring | None, key: str, client: str) -> int:
        headers = [("authorization", f"Bearer {key}")] if key else []
        app = management(FakeControl(), keyring)
        asked = Exchange(app, "GET", "/reader_groups", b"", headers, client)
        return (await asked.finished()).status

    here, elsewhere = "127.0.0.1", "192.0.2.7"
    assert await status(None, "", here) == 200
    assert await status(None, "", elsewhere) == 403
    assert await status(keyring, "", here) == 401, "where there are keys, one is needed"
    assert await status(keyring, keys[KeyScope.INFER], here) == 403
    assert await status(keyring, keys[KeyScope.ADMIN], elsewhere) == 200


async def test_page_of_another_origin_may_not_manage() -> None:
    app = management(FakeControl())
    headers = [("origin", "https://evil.example"), ("host", "127.0.0.1:3001")]
    exchange = await Exchange(app, "DELETE", "/reader/0", b"", headers).finished()
    assert exchange.status == 403


async def test_applications_are_told_apart_by_their_ports() -> None:
    def saying(text: str) -> ASGIApp:
        return Starlette(routes=[Route("/", lambda request: PlainTextResponse(text))])

    app = by_port(saying("one"), {80: saying("two")})
    assert (await Exchange(app, "GET", "/").finished()).body == b"two"
    app = by_port(saying("one"), {81: saying("two")})
    assert (await Exchange(app, "GET", "/").finished()).body == b"one"
