"""`unisono serve`: finds the model, then hands everything to the supervisor.

The model is resolved before a single process is spawned, so that a wrong name costs nothing.
"""

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from backend.config.errors import ModelError
from gateway import client_key, hub, start
from gateway.commands.found_model import found_model
from gateway.notices.console import Console
from gateway.options import SettingsError
from gateway.setting_sources import load
from gateway.settings import ServerSettings, Settings
from gateway.takeoff_variables import in_variables
from gateway.telemetry import logs

_GUARDS_NOTHING = "is what `unisono top` and `bench` send; a server's keys are --api-keys FILE"


def run(given: Mapping[str, Any]) -> int:
    """Serve until stopped; return the exit status. Raises SettingsError."""
    flags = dict(given)
    config: Path | None = flags.pop("config", None)
    loaded = load(flags, os.environ, config)
    settings = loaded.settings
    if settings.server.otel_endpoint and not _has_otel():
        raise SettingsError(
            "--otel-endpoint needs more packages; in Unisono's folder: pip install '.[otel]'"
        )
    if settings.server.log_format == "json":  # a download is told in events, too
        logs.configure("supervisor", settings.server.log_level, "json")
    if os.environ.get(client_key.VARIABLE) and not settings.server.api_keys:
        _complain(f"{client_key.VARIABLE} {_GUARDS_NOTHING}", settings.server, logging.WARNING)
    for note in loaded.notes:
        _complain(note, settings.server, logging.WARNING)
    try:
        return start.run(with_model_found(settings), settings.engine.model)
    except (hub.ModelNotFound, ModelError) as error:
        _complain(in_variables(str(error), loaded.sources), settings.server)
        return 1


def with_model_found(settings: Settings) -> Settings:
    """Replace the model's name by its path. Raises hub.ModelNotFound.

    A hub model goes by its hub name unless told otherwise: its path ends in a hash. The token is
    dropped: nothing after this needs the secret.
    """
    server, engine = settings.server, settings.engine
    path = found_model(
        engine,
        revision=server.revision,
        token=server.hf_token,
        offline=server.offline,
        progress=server.log_format == "text",
    )
    names = server.served_model_name
    if not names and hub.is_hub_name(engine.model):
        names = (engine.model,)
    return msgspec.structs.replace(
        settings,
        server=msgspec.structs.replace(server, served_model_name=names, hf_token=""),
        engine=msgspec.structs.replace(engine, model=str(path)),
    )


def _complain(fault: str, server: ServerSettings, level: int = logging.ERROR) -> None:
    """Say what is wrong, before there is a supervisor that could."""
    Console(as_events=server.log_format == "json").say(fault, level)


def _has_otel() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # of a parent
        return False
