"""What the operator may set, each setting declared once, and where its value comes from.

Flags win over the environment (UNISONO_<FIELD>), that over a TOML file, that over the default.
Unknown names are refused wherever they stand. Engine settings are declared in backend/settings.py;
nothing here acts on a value.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from backend.settings import EngineSettings
from gateway.options import VARIABLE_PREFIX, Option, SettingsError, options_of, suggestion

__all__ = ["ServerSettings", "Settings", "SettingsError", "load", "setting_options"]

_MODEL = {"group": "model"}

# Read where they are needed, not settings of a server: see gateway/default_model.py.
_OTHER_VARIABLES = frozenset({"UNISONO_CACHE"})

# What Kubernetes puts into every container for a Service whose name starts with "unisono";
# UNISONO_PORT=tcp://10.0.0.1:8000 among them, which must not be taken for our port.
_KUBERNETES_NAME = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_[A-Z]+(_[A-Z]+)?)")
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the HTTP side and of finding the model."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="port to listen on (0: any free one)")
    ] = 8000
    workers: Annotated[int, Meta(ge=1, le=64, description="HTTP processes")] = 1
    api_keys: Annotated[
        str, Meta(description="file of API keys, made by `unisono keys`; read again on SIGHUP")
    ] = ""
    allow_anonymous: Annotated[
        bool, Meta(description="serve requests without a key, even those of other machines")
    ] = False
    drain_seconds: Annotated[
        float, Meta(ge=0, le=86_400, description="time streams may take to end after a stop signal")
    ] = 30.0
    resume_seconds: Annotated[
        float,
        Meta(ge=0, le=86_400, description="time a request cut off by a crash waits for a group"),
    ] = 120.0
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=2**30, description="largest request body that is read")
    ] = 10 * 2**20
    strict: Annotated[
        bool,
        Meta(description="refuse request fields that mean nothing here, instead of ignoring them"),
    ] = False
    ping_seconds: Annotated[
        float,
        Meta(ge=0, le=86_400, description="a stream silent for so long sends a comment (0: never)"),
    ] = 15.0
    send_timeout_s: Annotated[
        float,
        Meta(ge=1, le=86_400, description="a client that reads nothing for so long is cut off"),
    ] = 30.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="least severe line logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], Meta(description="log lines for people or for machines")
    ] = "text"
    access_log: Annotated[bool, Meta(description="log a line for every request")] = True
    served_model_name: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(description="names clients may ask for, separated by commas", extra=_MODEL),
    ] = ()
    revision: Annotated[
        str, Meta(description="branch, tag or commit of a hub model", extra=_MODEL)
    ] = ""
    hf_token: Annotated[
        str,
        Meta(description="token for gated hub models; HF_TOKEN keeps it out of ps", extra=_MODEL),
    ] = ""
    offline: Annotated[
        bool, Meta(description="never ask the hub: only what is in its cache", extra=_MODEL)
    ] = False


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `unisono serve` can be told; the tables of the settings file."""

    server: ServerSettings = ServerSettings()
    engine: EngineSettings = EngineSettings()


def setting_options() -> dict[str, list[Option]]:
    """The options of each table of Settings, in the order of declaration."""
    return {
        "server": options_of(ServerSettings, "server"),
        "engine": options_of(EngineSettings, "engine"),
    }


def load(flags: Mapping[str, object], environ: Mapping[str, str], path: Path | None) -> Settings:
    """Merge all sources into Settings; a value is checked even where another one wins.

    flags: field name -> value, only those given. path: the TOML file, if any.
    Raises SettingsError, naming the flag, variable or file key at fault.
    """
    tables = setting_options()
    options = {option.name: option for table in tables.values() for option in table}
    values = _from_file(path, tables) if path is not None else {}
    values |= _from_environment(environ, options)
    for name, value in flags.items():
        values[name] = options[name].read(value, options[name].flag)
    chosen: dict[str, dict[str, Any]] = {
        table: {option.name: values[option.name] for option in members if option.name in values}
        for table, members in tables.items()
    }
    return Settings(
        server=ServerSettings(**chosen["server"]), engine=EngineSettings(**chosen["engine"])
    )


def _from_environment(
    environ: Mapping[str, str], options: Mapping[str, Option]
) -> dict[str, object]:
    by_variable = {option.variable: option for option in options.values()}
    values: dict[str, object] = {}
    for variable, text in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or _is_foreign(variable, text):
            continue
        if variable not in by_variable:
            meant = suggestion(variable, by_variable, VARIABLE_PREFIX)
            raise SettingsError(f"{variable} is not a setting{meant}")
        # Composed files and unit files pass an unset variable on as an empty one.
        if text.strip():
            option = by_variable[variable]
            values[option.name] = option.read(text, variable)
    return values


def _is_foreign(variable: str, text: str) -> bool:
    if variable in _OTHER_VARIABLES or _KUBERNETES_NAME.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _KUBERNETES_URL.match(text) is not None


def _from_file(path: Path, tables: Mapping[str, list[Option]]) -> dict[str, object]:
    values: dict[str, object] = {}
    homes = {option.name: table for table, members in tables.items() for option in members}
    for table, content in _parsed(path).items():
        if table in homes:
            raise SettingsError(f"{path}: {table} belongs under [{homes[table]}]")
        if table not in tables or not isinstance(content, dict):
            known = " and ".join(f"[{name}]" for name in tables)
            raise SettingsError(f"{path}: {table} is not a table of settings; there are {known}")
        options = {option.name: option for option in tables[table]}
        for key, value in content.items():
            if key in options:
                values[key] = options[key].check(value, f"{path}: {key}")
            elif key in homes:
                raise SettingsError(f"{path}: {key} belongs under [{homes[key]}], not [{table}]")
            else:
                raise SettingsError(f"{path}: {key} is not a setting{suggestion(key, homes)}")
    return values


def _parsed(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        # Not TOML, or not even UTF-8.
        raise SettingsError(f"{path} is not a TOML file: {error}") from error
