"""A server that lives as long as a command: on a free port of this machine, for it alone.

Used by `unisono run` and `unisono chat`; the commands that measure have LaunchedServer itself.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from backend.config.errors import ModelError
from gateway import hub
from gateway.bench.launched_server import LaunchedServer, ServerDied
from gateway.commands.serve import with_model_found
from gateway.options import VARIABLE_PREFIX
from gateway.setting_sources import load
from gateway.terminal.chat_client import ChatClient
from gateway.terminal.chat_settings import OWN_ADDRESS


@contextlib.contextmanager
def served(flags: Mapping[str, Any]) -> Iterator[ChatClient]:
    """Serve a model while the context lasts. flags: of `serve`, by name.

    Raises SettingsError, and SystemExit with the server's words if it does not start.
    """
    config: Path | None = flags.get("config")
    server_flags = {name: value for name, value in flags.items() if name != "config"}
    settings = load(server_flags, os.environ, config).settings
    try:
        settings = with_model_found(settings)
    except (hub.ModelNotFound, ModelError) as error:
        sys.exit(f"unisono: {error}")
    names = settings.server.served_model_name
    own = {**flags, **OWN_ADDRESS, "model": settings.engine.model}
    own |= {"served_model_name": names} if names else {}
    variables = {name: v for name, v in os.environ.items() if name.startswith(VARIABLE_PREFIX)}
    with _ended_by_signals():
        server = LaunchedServer(own, environment=variables)
        try:
            with _said(f"starting {flags['model']} ..."):
                server.__enter__()
        except ServerDied as died:
            words = str(died).removeprefix("unisono: ")
            sys.exit(f"unisono: {words}")
        try:
            yield ChatClient(server.url)
        finally:
            server.stop()


@contextlib.contextmanager
def _said(words: str) -> Iterator[None]:
    """Show a line to a watching person while something takes its time."""
    is_watched = sys.stderr.isatty()
    if is_watched:
        print(f"unisono: {words}", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if is_watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals that would end this process at once end it in order, its server first."""
    before = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
