"""`unisono top`: a running server live in the terminal, or one frame of it on standard output."""

import os
import sys
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from gateway import options
from gateway.client_key import key_for
from gateway.options import SettingsError
from gateway.top.gpus import Gpus
from gateway.top.keyboard import Keyboard
from gateway.top.scrape import History, Unreachable, scrape
from gateway.top.top_settings import TopSettings
from gateway.top.view import Frame

ENDLESS = 10_000
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})


def run(flags: Mapping[str, object]) -> int:
    """Show a server until interrupted; return the exit status. Raises SettingsError."""
    settings = _completed(options.read(TopSettings, flags))
    gpus = Gpus() if urlsplit(settings.url).hostname in _THIS_MACHINE else None
    try:
        if settings.once:
            _print(settings, gpus)
        else:
            _watch(settings, gpus)
    except Unreachable as error:
        sys.exit(f"unisono: {error}")
    return 0


def _completed(settings: TopSettings) -> TopSettings:
    """Take `host:port` for a URL, and a key from the environment. Raises SettingsError."""
    url = settings.url if "://" in settings.url else f"http://{settings.url}"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"--url {settings.url}: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise SettingsError(f"--url must be http://... or https://..., not {settings.url!r}")
    api_key = key_for(url, settings.api_key, os.environ)
    return msgspec.structs.replace(settings, url=url, api_key=api_key)


def _print(settings: TopSettings, gpus: Gpus | None) -> None:
    """Print one frame, with rates of one interval."""
    history = History(is_whole=True)
    history.add(scrape(settings.url, settings.api_key))
    time.sleep(settings.interval)
    history.add(scrape(settings.url, settings.api_key))
    devices = gpus.read() if gpus is not None else []
    Console().print(Frame(settings.url, history, devices, max_height=ENDLESS))


def _watch(settings: TopSettings, gpus: Gpus | None) -> None:
    """Show frames until `q` or an interrupt. A server that is away for a while is waited for."""
    history = History()
    history.add(scrape(settings.url, settings.api_key))
    with Keyboard(sys.stdin) as keyboard, Live(screen=True, auto_refresh=False) as live:
        shown: Frame | Text
        while True:
            try:
                history.add(scrape(settings.url, settings.api_key))
                devices = gpus.read() if gpus is not None else []
                shown = Frame(settings.url, history, devices)
            except Unreachable as error:
                shown = Text(f"{error}; trying again", "red")
            live.update(shown, refresh=True)
            if keyboard.quits_within(settings.interval):
                return
