"""Servers of several kinds, played by hand: what is sent, what is read, and how failure is told."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.terminal.chat_client import ChatClient, ChatError, Figures, Piece


class FakeServer(http.server.ThreadingHTTPServer):
    """Answers every request with the same status and body, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body = 200, b""
        self.paths: list[str] = []
        self.bodies: list[Any] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.keys.append(self.headers["authorization"])
        length = int(self.headers["content-length"] or 0)
        self.server.bodies.append(json.loads(self.rfile.read(length) or b"null"))
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def stream(*events: object, done: bool = True) -> bytes:
    data = [f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([": ping\n\n", *data, "data: [DONE]\n\n" if done else ""]).encode()


def delta(**fields: str) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


def test_stream_is_read_with_thoughts_and_figures(server: FakeServer) -> None:
    end = {"choices": [{"delta": {}, "finish_reason": "length"}], "usage": None}
    usage = {"choices": [], "usage": {"completion_tokens": 7}}
    server.body = stream(
        delta(role="assistant"), delta(reasoning_content="Hm"), delta(content="Paris"), end, usage
    )
    figures = Figures()
    messages = [{"role": "user", "content": "Capital?"}]
    client = ChatClient(server.url + "/v1/", "sk-1")
    pieces = list(client.chat("m", messages, {"seed": 1}, figures))
    assert pieces == [Piece("Hm", is_thought=True), Piece("Paris")]
    assert (figures.num_tokens, figures.finish_reason) == (7, "length")
    assert "7 tokens" in str(figures) and "cut off" in str(figures)
    assert (server.paths, server.keys) == (["/v1/chat/completions"], ["Bearer sk-1"])
    [body] = server.bodies
    assert body["messages"] == messages and body["stream"] is True and body["seed"] == 1


def test_tokens_are_counted_where_the_server_counts_none(server: FakeServer) -> None:
    server.body = stream(delta(reasoning="Hm"), delta(content="Pa"), delta(content="ris"))
    figures = Figures()
    assert "".join(piece.text for piece in ChatClient(server.url).chat("m", [], {}, figures))
    assert figures.num_tokens == 3


def test_completion_is_text(server: FakeServer) -> None:
    server.body = stream({"choices": [{"text": "Paris", "finish_reason": None}]})
    pieces = list(ChatClient(server.url).complete("m", "The capital is", {}))
    assert pieces == [Piece("Paris")]
    assert server.bodies[0]["prompt"] == "The capital is"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"error": {"message": "no key"}}', "answers 401: no key"),
        (400, b'{"error": "model \'m\' not found"}', "answers 400: model 'm' not found"),
        (502, b"<h1>Bad gateway</h1>", "answers 502: <h1>Bad gateway</h1>"),
        (503, b"", "answers 503: nothing"),
        (200, stream({"error": {"message": "group died"}}, done=False), "group died"),
        (200, stream(delta(content="Pa"), done=False), "broke off before the answer's end"),
        (200, b"data: {nonsense\n\n", "broke off"),
        (200, stream(["Pa"]), "broke off: .* is no part of an answer"),
    ],
)
def test_failure_is_told_in_the_servers_words(
    server: FakeServer, status: int, body: bytes, words: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(ChatError, match=words):
        list(ChatClient(server.url).chat("m", [], {}))


def test_models_are_listed(server: FakeServer) -> None:
    server.body = b'{"data": [{"id": "a"}, {"id": "b"}]}'
    assert [card["id"] for card in ChatClient(server.url).models()] == ["a", "b"]
    for body in (b'{"data": []}', b'{"data": {"id": "a"}}', b'{"data": ["a", {}]}'):
        server.body = body
        with pytest.raises(ChatError, match="serves no model"):
            ChatClient(server.url).models()


def test_nobody_there_is_told_without_a_number() -> None:
    with pytest.raises(ChatError, match=r"cannot be reached: Connection refused$"):
        ChatClient("127.0.0.1:1").models()


def test_name_of_a_host_that_none_can_have_is_told() -> None:
    with pytest.raises(ChatError, match=r"a\.\.b cannot be reached: .*label"):
        ChatClient("http://a..b").models()


def test_what_no_request_can_hold_is_told(server: FakeServer) -> None:
    """Python makes surrogates of the bytes of a command line that are not UTF-8."""
    with pytest.raises(ChatError, match="no text in UTF-8"):
        list(ChatClient(server.url).complete("m", "caf\udce9", {}))


def test_path_may_have_any_characters(server: FakeServer) -> None:
    server.body = b'{"data": [{"id": "a"}]}'
    ChatClient(f"{server.url}/l\u00fc 1/v1").models()
    assert server.paths == ["/l%C3%BC%201/v1/models"]


@pytest.mark.parametrize("url", ["ftp://host", "http://", "file:///x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be http"):
        ChatClient(url)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("https://api.example.com/v1", "https://api.example.com"),
        ("http://proxy/llm/v1/", "http://proxy/llm"),
    ],
)
def test_url_may_have_v1_behind_it(given: str, shown: str) -> None:
    assert ChatClient(given).url == shown
