"""A headless Chromium, driven by chromedriver over the W3C WebDriver protocol.

Both are Debian's (apt-get install chromium chromium-driver). Elements are found by CSS selectors.
Knows no page of ours. Used by the suites that look at one.
"""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
LIMIT_S = 60.0
# As WebDriver spells keys; RELEASE lets go of those that are held.
ENTER, ESCAPE, CONTROL, RIGHT = "\ue007", "\ue00c", "\ue009", "\ue014"
BACKSPACE, RELEASE = "\ue003", "\ue000"
# What a WebDriver answer calls an element by.
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class DriverError(Exception):
    """What chromedriver refused, in its words."""


class Browser:
    """One window. Everything it logs and asks for is kept until it is taken."""

    def __init__(self, url: str, profile: Path, *, width: int = 1280, height: int = 800) -> None:
        """url: chromedriver's. profile: an empty directory for the browser to keep things in."""
        self._url = url
        arguments = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            f"--user-data-dir={profile}",
            # Whatever name it asks for, nothing but this machine is reached.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--disable-background-networking",
        ]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {
                "binary": BROWSER,
                "args": arguments,
                "perfLoggingPrefs": {"enableNetwork": True},
            },
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{answer['sessionId']}"
        self.resize(width, height)

    def close(self) -> None:
        """End the browser."""
        self._call("DELETE", self._session)

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self.ask("POST", "/url", {"url": url})

    def resize(self, width: int, height: int) -> None:
        """Give the page so many CSS pixels, also fewer than a window may have."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """Say that the person at the browser likes pages "dark" or "light"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.devtools("Emulation.setEmulatedMedia", {"features": [feature]})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a function body returns in the page; a promise is waited for."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": arguments})

    def devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        """Give a command of the DevTools protocol."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def click(self, selector: str) -> None:
        """Click an element as a person would: one that cannot be clicked is an error."""
        self.ask("POST", f"/element/{self._find(selector)}/click", {})

    def type(self, selector: str, keys: str) -> None:
        """Type into an element."""
        self.ask("POST", f"/element/{self._find(selector)}/value", {"text": keys})

    def press(self, *keys: str) -> None:
        """Press keys together, whatever has the focus."""
        down = [{"type": "keyDown", "value": key} for key in keys]
        up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
        actions = {"type": "key", "id": "keyboard", "actions": [*down, *up]}
        self.ask("POST", "/actions", {"actions": [actions]})

    def hover(self, selector: str) -> None:
        """Move the pointer over an element."""
        origin = {_ELEMENT: self._find(selector)}
        move = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": origin}
        actions = {"type": "pointer", "id": "mouse", "actions": [move]}
        self.ask("POST", "/actions", {"actions": [actions]})

    def text(self, selector: str) -> str:
        """Return the text that an element shows; "" if there is no such element."""
        return str(
            self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        )

    def is_shown(self, selector: str) -> bool:
        """Whether there is such an element, and it is not hidden in any way."""
        script = "return Boolean(document.querySelector(arguments[0])?.checkVisibility())"
        return bool(self.run(script, selector))

    def wait_for(self, condition: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
        """Return once `condition` holds; if it does not in time, fail with `what`."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, (
                f"not within {limit_s:g} s: {what}; {self.console()}"
            )
            time.sleep(0.02)

    def screenshot(self, path: Path) -> None:
        """Write what is seen to a PNG file."""
        path.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))

    def console(self) -> list[str]:
        """Take what the page and the browser have logged: errors, refusals of its policy."""
        entries = self.ask("POST", "/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def requests(self) -> list[str]:
        """Take the URLs that were asked for."""
        entries = self.ask("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a command of the session; return its value. Raises DriverError."""
        return self._call(method, self._session + path, body)

    def _find(self, selector: str) -> str:
        found = self.ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                told = json.load(error)["value"]
            raise DriverError(f"{told['error']}: {told['message'].splitlines()[0]}") from None


@contextmanager
def driver() -> Iterator[str]:
    """Run chromedriver; yield its URL."""
    assert DRIVER is not None
    command = [DRIVER, "--port=0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            started = next(line for line in process.stdout if "started successfully" in line)
            port = started.rpartition("on port ")[2].rstrip(".\n")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def browser(url: str, profile: Path, *, width: int = 1280, height: int = 800) -> Iterator[Browser]:
    """Run a browser of a chromedriver; end it."""
    opened = Browser(url, profile, width=width, height=height)
    try:
        yield opened
    finally:
        with contextlib.suppress(DriverError):
            opened.close()
