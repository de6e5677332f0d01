"""A hub on this machine that serves files by ranges, as huggingface_hub asks for them."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from huggingface_hub import constants


class HubStandIn(ThreadingHTTPServer):
    """files: "org/name/file" -> content. asked: (method, file, range) of every request."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: list[tuple[str, str, str]] = []

    @property
    def sent_bytes(self) -> int:
        """Bytes of files that were asked for."""
        total = 0
        for method, _, wanted in self.asked:
            if method == "GET":
                start, _, end = wanted.removeprefix("bytes=").partition("-")
                total += int(end) - int(start) + 1
        return total


class _Handler(BaseHTTPRequestHandler):
    server: HubStandIn

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _answer(self, *, is_head: bool) -> None:
        repo, _, rest = unquote(self.path).lstrip("/").partition("/resolve/")
        name = f"{repo}/{rest.partition('/')[2]}"
        wanted = self.headers.get("Range", "")
        self.server.asked.append((self.command, name, wanted))
        content = self.server.files.get(name)
        if content is None:
            has_repo = any(each.startswith(f"{repo}/") for each in self.server.files)
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if has_repo else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        part, status = content, 200
        if wanted and not is_head:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            part, status = content[int(start) : int(end) + 1], 206
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if not is_head:
            self.wfile.write(part)


@contextmanager
def hub_of(files: Mapping[str, bytes]) -> Iterator[HubStandIn]:
    """Serve files as the hub's while this is open."""
    with HubStandIn(files) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        before = constants.ENDPOINT, constants.HUGGINGFACE_CO_URL_TEMPLATE
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        constants.ENDPOINT = endpoint
        constants.HUGGINGFACE_CO_URL_TEMPLATE = (
            endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        try:
            yield hub
        finally:
            constants.ENDPOINT, constants.HUGGINGFACE_CO_URL_TEMPLATE = before
            hub.shutdown()
            thread.join()
