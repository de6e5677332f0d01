"""Pages of other origins in headless Chromium: those that may call can read, the others cannot.

Chromium is Debian's (apt-get install chromium-headless-shell); nothing but this machine is asked.
"""

import http.server
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.security.key_file import add_key
from gateway.security.keys import create_key
from gateway.tenant import KeyScope
from tests.e2e.server import Server
from tests.suites.conftest import MODEL
from tests.suites.model import write_suite_model

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
PAGE = Path(__file__).with_name("browser_page.html").read_bytes()
LIMIT_S = 60.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]


class PageServer(http.server.ThreadingHTTPServer):
    """Serves the page on this machine, and takes what it found out."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.results: queue.Queue[dict[str, Any]] = queue.Queue()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        self._answer(PAGE if self.path.startswith("/?") else b"")

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        self.server.results.put(json.loads(self.rfile.read(length)))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with PageServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    key, kept = create_key("", [KeyScope.INFER])
    add_key(path, kept)
    return path, key


def command(profile: Path, *more: str) -> list[str]:
    """A browser for which every name is this machine."""
    assert BROWSER is not None
    rules = "--host-resolver-rules=MAP * 127.0.0.1"
    return [BROWSER, "--headless", "--no-sandbox", f"--user-data-dir={profile}", rules, *more]


@contextmanager
def browsing(url: str, profile: Path) -> Iterator[None]:
    process = subprocess.Popen(
        command(profile, "--remote-debugging-port=0", url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def visit(
    host: str, pages: PageServer, server: Server, profile: Path, key: str = ""
) -> dict[str, Any]:
    """Open the page under a name of this machine; return what it found out of the server."""
    asked = urlencode({"url": server.url, "key": key})
    with browsing(f"http://{host}:{pages.server_port}/?{asked}", profile):
        told = pages.results.get(timeout=LIMIT_S)
    assert told.pop("origin") == f"http://{host}:{pages.server_port}"
    return told


def check_served(told: dict[str, Any]) -> None:
    assert told["models"] == [200, MODEL]
    assert told["whole"][:2] == [200, 40] and told["whole"][2].startswith("req-")
    status, num_reads, is_done = told["stream"]
    assert (status, is_done) == (200, True) and num_reads > 1
    assert told["error"] == [400, "n"]


def check_refused(told: dict[str, Any]) -> None:
    for step in ("models", "whole", "stream", "error"):
        assert told[step] == "TypeError: Failed to fetch"
    assert told["simple"] == ["opaque"]  # sent, and answered with nothing that it could read


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_page_of_this_machine_may_call(
    host: str, pages: PageServer, suite_server: Server, tmp_path: Path
) -> None:
    check_served(visit(host, pages, suite_server, tmp_path))


def test_page_of_elsewhere_may_not_even_make_it_work(
    pages: PageServer, suite_server: Server, tmp_path: Path
) -> None:
    before = suite_server.stderr
    check_refused(visit("app.example.com", pages, suite_server, tmp_path))
    lines = suite_server.stderr.removeprefix(before).splitlines()
    served = [line for line in lines if "route=/v1/completions" in line]
    assert not served, "the gate comes before the route"
    assert sum("error=origin_not_allowed" in line for line in lines) >= 5


def test_named_page_may_call_with_a_key(
    pages: PageServer, key_file: tuple[Path, str], tmp_path: Path
) -> None:
    path, key = key_file
    model = write_suite_model(tmp_path / MODEL)
    flags = ("--api-keys", str(path), "--cors-origins", "http://*.example.com:*")
    with Server(model, *flags, "--kv-cache-bytes", "64MiB") as server:
        check_served(visit("app.example.com", pages, server, tmp_path / "1", key))
        check_refused(visit("evil.example", pages, server, tmp_path / "2", key))


def test_name_that_points_here_shows_nothing(suite_server: Server, tmp_path: Path) -> None:
    url = f"http://evil.example:{suite_server.port}/v1/models"
    done = subprocess.run(
        command(tmp_path, "--dump-dom", url), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert "host_not_allowed" in done.stdout and '"id"' not in done.stdout
    url = url.replace("evil.example", "localhost")
    done = subprocess.run(
        command(tmp_path, "--dump-dom", url), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert f'"id":"{MODEL}"' in done.stdout
