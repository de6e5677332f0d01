"""A key goes to the server it was meant for, and to no other."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gateway import cli
from gateway.client_key import key_for
from gateway.options import SettingsError

OPENAI = {"OPENAI_API_KEY": "sk-openai"}
COMMANDS = [["top", "--once"], ["bench", "serve"]]


@pytest.mark.parametrize(
    ("url", "base_url", "expected"),
    [
        ("http://127.0.0.1:8000", "", ""),
        ("http://localhost:8000", "", ""),
        ("https://api.openai.com", "", "sk-openai"),
        ("https://api.openai.com.evil.example", "", ""),
        ("https://api.openai.com@evil.example", "", ""),
        ("http://api.openai.com", "", ""),  # in clear text
        ("http://box:8000", "http://BOX:8000/v1/", "sk-openai"),
        ("box:8000", "http://box:8000/v1", "sk-openai"),
        ("https://box", "https://box:443/v1", "sk-openai"),
        ("http://box:8001", "http://box:8000/v1", ""),
        ("https://api.openai.com", "http://box:8000/v1", ""),
        ("http://box:x", "http://box:y", ""),
        ("ftp://box", "ftp://box", ""),
    ],
)
def test_openais_key_goes_where_openais_clients_would_send_it(
    url: str, base_url: str, expected: str
) -> None:
    environ = OPENAI | {"OPENAI_BASE_URL": base_url}
    assert key_for(url, "", environ) == expected


def test_key_named_for_unisono_goes_anywhere_and_the_flag_first() -> None:
    environ = OPENAI | {"UNISONO_API_KEY": " sk-ours\n"}
    assert key_for("http://box:8000", "", environ) == "sk-ours"
    assert key_for("https://api.openai.com", "", environ) == "sk-ours"
    assert key_for("http://box:8000", "sk-given", environ) == "sk-given"


@dataclass
class Listener:
    """Keeps the Authorization headers it gets; refuses, or sends everybody elsewhere."""

    redirect_to: str = ""
    headers: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def listeners() -> Iterator[tuple[Listener, Listener]]:
    """Two servers on this machine."""
    pair = Listener(), Listener()
    servers = [_server(listener) for listener in pair]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield pair
    for server in servers:
        server.shutdown()
        server.server_close()


def _server(listener: Listener) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listener.headers.append(self.headers["Authorization"])
            self.send_response(302 if listener.redirect_to else 401)
            self.send_header("Location", listener.redirect_to)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.url = f"http://127.0.0.1:{server.server_port}"
    return server


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_sends_openais_key_to_just_any_server(
    command: list[str], listeners: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sent it to whatever --url named."""
    listener, _ = listeners
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    for variable in ("OPENAI_BASE_URL", "UNISONO_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit, match="UNISONO_API_KEY sends a key"):
        cli.main([*command, "--url", listener.url])
    monkeypatch.setenv("UNISONO_API_KEY", "sk-ours")
    with pytest.raises(SystemExit):
        cli.main([*command, "--url", listener.url])
    assert listener.headers == [None, "Bearer sk-ours"]


@pytest.mark.parametrize("command", COMMANDS)
def test_redirect_gets_no_key(
    command: list[str], listeners: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = listeners
    first.redirect_to = second.url + "/metrics"
    monkeypatch.setenv("UNISONO_API_KEY", "sk-ours")
    with pytest.raises(SystemExit):
        cli.main([*command, "--url", first.url])
    assert first.headers == ["Bearer sk-ours"]
    assert second.headers in ([], [None])


@pytest.mark.parametrize("key", ["sk-1\nX-Admin: yes", "\N{LEFT DOUBLE QUOTATION MARK}sk-1", "a b"])
def test_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """Such came out as a traceback of the HTTP library, or as further headers."""
    with pytest.raises(SettingsError, match=r"character \d of the API key is '") as refused:
        key_for("http://box", key, {})
    assert "sk-" not in str(refused.value)
    assert key_for("http://box", "sk-1\r\n", {}) == "sk-1"


@pytest.mark.parametrize("command", COMMANDS)
def test_key_is_shown_to_no_proxy(
    command: list[str], listeners: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unisono top` asked what HTTP_PROXY names for 127.0.0.1, with the key."""
    server, proxy = listeners
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    with pytest.raises(SystemExit):
        cli.main([*command, "--url", server.url, "--api-key", "sk-ours"])
    assert (server.headers, proxy.headers) == (["Bearer sk-ours"], [])
