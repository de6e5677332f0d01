"""A server with API keys, beyond loopback: who comes in, and what a change of the file does."""

import signal
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from gateway.security.key_file import add_key, remove_key
from gateway.security.keys import create_key
from gateway.tenant import KeyScope
from tests.e2e.server import Server, refused_start, wait_until

pytestmark = pytest.mark.e2e

RELOAD_SECONDS = 60.0


def new_key(path: Path) -> str:
    key, kept = create_key("", [KeyScope.INFER])
    add_key(path, kept)
    return key


def comes_in(server: Server, key: str) -> bool:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        try:
            return client.models.list().data[0].id == "tiny"
        except openai.AuthenticationError as error:
            assert error.code == "invalid_api_key"
            return False


def reload(server: Server, outcome: str = "API keys read") -> None:
    """Have both workers read the file, and wait until they say what came of it."""
    expected = server.stderr.count(outcome) + 2
    server.send(signal.SIGHUP)
    wait_until(lambda: server.stderr.count(outcome) == expected, RELOAD_SECONDS, outcome)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    new_key(path)
    return path


@pytest.fixture(scope="module")
def keyed_server(tiny_model: Path, keys: Path) -> Iterator[Server]:
    arguments = ("--host", "0.0.0.0", "--api-keys", keys, "--workers", "2")
    with Server(tiny_model, *arguments) as server:
        yield server


def test_keys_change_on_sighup_under_a_stream_that_goes_on(
    keyed_server: Server, keys: Path
) -> None:
    first = new_key(keys)
    assert not comes_in(keyed_server, first)
    reload(keyed_server)
    assert comes_in(keyed_server, first)
    with openai.OpenAI(base_url=f"{keyed_server.url}/v1", api_key=first) as client:
        stream = client.completions.create(
            model="tiny",
            prompt="Hello",
            max_tokens=500,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(stream)
        assert remove_key(keys, first.split("-")[1])
        reload(keyed_server)
        assert not comes_in(keyed_server, first)
        assert list(stream)[-1].choices[0].finish_reason == "length"
    assert first.split("-", 2)[2] not in keyed_server.stderr


def test_broken_file_changes_nothing_but_the_log(keyed_server: Server, keys: Path) -> None:
    key = new_key(keys)
    reload(keyed_server)
    good = keys.read_text()
    keys.write_text("[[keys]]\nid = 3\n")
    reload(keyed_server, "API keys not read, 2 stay")
    keys.write_text("")
    reload(keyed_server, "has no keys")
    assert comes_in(keyed_server, key) and not comes_in(keyed_server, "none")
    keys.write_text(good)


def test_public_address_without_keys_is_refused_in_words(tiny_model: Path) -> None:
    words = refused_start(tiny_model, "--host", "0.0.0.0")
    assert "0.0.0.0 is open to other machines" in words
    assert "unisono keys new" in words
