"""Consumer groups on two groups, and readers that come and go over the management port."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.control import ctl
from tests.e2e.relay import free_ports
from tests.e2e.server import Server

pytestmark = pytest.mark.e2e

TEXT = "List 3 things to do in London"


@pytest.fixture(scope="module")
def management_port() -> int:
    return free_ports(1)


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("takeoff") / "unisono.sock"


@pytest.fixture(scope="module")
def server(tiny_model: Path, management_port: int, socket_path: Path) -> Iterator[Server]:
    """Two groups, `primary` and `batch`. Each test leaves these two."""
    settings = socket_path.with_name("unisono.toml")
    settings.write_text("[[groups]]\n[[groups]]\nname = 'batch'\n")
    ports = ["--management-port", str(management_port)]
    with Server(
        tiny_model,
        "--config",
        settings,
        *ports,
        "--control-socket",
        socket_path,
        "--kv-cache-bytes",
        str(1 << 24),
    ) as server:
        yield server


def ask(port: int, method: str, path: str, **fields: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = msgspec.json.encode(fields) if fields else None
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, msgspec.json.decode(data) if data else None


def generated(server: Server, group: str) -> tuple[int, Any]:
    fields = {"text": TEXT, "consumer_group": group, "max_new_tokens": 4, "min_new_tokens": 4}
    return ask(server.port, "POST", "/generate", **fields)


def test_group_of_a_name_answers_and_others_do_not_stand_in(
    server: Server, socket_path: Path
) -> None:
    status, answer = generated(server, "primary")
    assert status == 200 and generated(server, "batch") == (200, answer)
    body = {"model": "batch", "prompt": TEXT, "max_tokens": 4, "temperature": 0, "min_tokens": 4}
    status, completion = ask(server.port, "POST", "/v1/completions", **body)
    assert (status, completion["choices"][0]["text"]) == (200, answer["text"])
    assert ctl(socket_path, "drain", "1")[0] == 0
    queued = {"text": TEXT, "consumer_group": "batch", "timeout": 0.5}
    assert ask(server.port, "POST", "/generate", **queued)[0] == 408, "it waits for its own"
    assert generated(server, "primary") == (200, answer)
    assert ctl(socket_path, "restart", "1")[0] == 0
    assert generated(server, "batch") == (200, answer)


def test_reader_is_added_and_deleted_over_the_management_port(
    server: Server, management_port: int
) -> None:
    reader = {"model_name": "tiny", "device": "cpu", "consumer_group": "llama"}
    status, made = ask(management_port, "POST", "/reader", **reader, max_batch_size=4)
    assert (status, made["consumer_group"], made["state"]) == (201, "llama", "ready")
    assert generated(server, "llama")[0] == 200
    _, groups = ask(management_port, "GET", "/reader_groups")
    assert [*groups] == ["primary", "batch", "llama"]
    assert ask(management_port, "DELETE", f"/reader/{made['reader_id']}") == (204, None)
    status, refusal = generated(server, "llama")
    assert status == 400 and "there are: 'primary', 'batch'" in refusal["error"]
    assert ask(management_port, "POST", "/generate", text=TEXT)[0] == 404
    assert ask(server.port, "GET", "/reader_groups")[0] == 404
