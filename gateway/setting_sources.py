"""Where the value of each setting comes from: flags, environment, TOML file, default.

Flags win over the environment (UNISONO_<FIELD>), that over the variables of a Takeoff deployment,
those over the file, that over the default. Unknown names are refused wherever they stand, but for
Takeoff's. Knows no particular setting.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.settings import EngineSettings
from gateway.options import VARIABLE_PREFIX, Option, SettingsError, options_of, suggestion
from gateway.settings import GroupSettings, ServerSettings, Settings, setting_options
from gateway.takeoff_variables import read_takeoff

DEFAULT = "default"
# What the list of groups says in their place.
SAID_BY_GROUPS = ("tp", "dp", "devices", "group_name")
MAX_GROUPS = 1024
# What may be said of a group that another gateway has started.
JOINED = {"address", "fingerprint", "name"}

# Read where they are needed, not settings of a server: see gateway/default_model.py, client_key.py.
_OTHER_VARIABLES = frozenset({"UNISONO_CACHE", "UNISONO_API_KEY"})

# What Kubernetes puts into every container for a Service whose name starts with "unisono";
# UNISONO_PORT=tcp://10.0.0.1:8000 among them, which must not be taken for our port.
_KUBERNETES_NAME = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_[A-Z]+(_[A-Z]+)?)")
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")

# Setting -> (value, source).
_Found = dict[str, tuple[object, str]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for the name of each where its value comes from, in words.

    notes: what the operator should know of these sources, a line each.
    """

    settings: Settings
    sources: dict[str, str]
    notes: tuple[str, ...] = ()


def load(flags: Mapping[str, object], environ: Mapping[str, str], path: Path | None) -> Loaded:
    """Merge all sources into Settings; a value is checked even where another one wins.

    flags: field name -> value, only those given. path: the TOML file, if any.
    Raises SettingsError, naming the flag, variable or file key at fault.
    """
    tables = setting_options()
    options = {option.name: option for table in tables.values() for option in table}
    takeoff = read_takeoff(environ, options)
    found = dict(takeoff.implied)
    found |= _from_file(path, tables) if path is not None else {}
    found |= takeoff.found
    found |= _from_environment(environ, options)
    for name, value in flags.items():
        source = "MODEL" if name == "model" else options[name].flag  # the one without a flag
        found[name] = (options[name].read(value, source), source)
    chosen: dict[str, dict[str, Any]] = {
        table: {option.name: found[option.name][0] for option in members if option.name in found}
        for table, members in tables.items()
    }
    groups = _groups(path) if path is not None else ()
    if groups:
        _check_only_groups(found, path)
    settings = Settings(
        server=ServerSettings(**chosen["server"]),
        engine=EngineSettings(**chosen["engine"]),
        groups=groups,
    )
    sources = {name: found[name][1] if name in found else DEFAULT for name in options}
    return Loaded(settings, sources, tuple(takeoff.notes))


def _from_environment(environ: Mapping[str, str], options: Mapping[str, Option]) -> _Found:
    by_variable = {option.variable: option for option in options.values()}
    found: _Found = {}
    for variable, text in environ.items():
        if not variable.startswith(VARIABLE_PREFIX) or _is_foreign(variable, text):
            continue
        if variable not in by_variable:
            meant = suggestion(variable, by_variable, VARIABLE_PREFIX)
            raise SettingsError(f"{variable} is not a setting{meant}")
        # Composed files and unit files pass an unset variable on as an empty one.
        if text.strip():
            option = by_variable[variable]
            found[option.name] = (option.read(text, variable), variable)
    return found


def _is_foreign(variable: str, text: str) -> bool:
    if variable in _OTHER_VARIABLES or _KUBERNETES_NAME.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _KUBERNETES_URL.match(text) is not None


def _from_file(path: Path, tables: Mapping[str, list[Option]]) -> _Found:
    found: _Found = {}
    homes = {option.name: table for table, members in tables.items() for option in members}
    text, parsed = _parsed(path)
    for table, content in parsed.items():
        if table == "groups":
            continue  # see _groups
        if table in homes:
            raise SettingsError(f"{path}: {table} belongs under [{homes[table]}]")
        if table not in tables or not isinstance(content, dict):
            known = " and ".join(f"[{name}]" for name in tables) + ", and lists of [[groups]]"
            raise SettingsError(f"{path}: {table} is not a table of settings; there are {known}")
        options = {option.name: option for option in tables[table]}
        for key, value in content.items():
            where = f"{path}{_line_of(text, table, key)}"
            if key in options:
                found[key] = (options[key].check(value, f"{where}: {key}"), where)
            elif key in homes:
                raise SettingsError(f"{where}: {key} belongs under [{homes[key]}], not [{table}]")
            else:
                raise SettingsError(f"{where}: {key} is not a setting{suggestion(key, homes)}")
    return found


def _groups(path: Path) -> tuple[GroupSettings, ...]:
    """Read the list of groups, each its ranks, devices and threads."""
    listed = _parsed(path)[1].get("groups", [])
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise SettingsError(f"{path}: groups are written as [[groups]], one table a group")
    if len(listed) > MAX_GROUPS:
        raise SettingsError(f"{path}: {len(listed)} [[groups]] are more than {MAX_GROUPS}")
    options = {option.name: option for option in options_of(GroupSettings, "groups")}
    groups = []
    for number, entry in enumerate(listed):
        where = f"{path}: group {number}"
        for key in entry.keys() - options.keys():
            raise SettingsError(f"{where}: {key} is not a setting{suggestion(key, options)}")
        values: dict[str, Any] = {
            key: options[key].check(entry[key], f"{where}: {key}") for key in entry
        }
        group = GroupSettings(**values)
        if group.address and (others := entry.keys() - JOINED):
            raise SettingsError(
                f"{where}: {', '.join(sorted(others))} cannot be said of a group with an address, "
                "which another gateway has started"
            )
        if len(group.devices) not in (0, group.ranks):
            raise SettingsError(
                f"{where}: {len(group.devices)} devices for {group.ranks} ranks; name one for each"
            )
        groups.append(group)
    return tuple(groups)


def _check_only_groups(found: _Found, path: Path | None) -> None:
    """Refuse a second word on how many ranks there are and where."""
    for name in SAID_BY_GROUPS:
        if name in found:
            raise SettingsError(
                f"{path}: [[groups]] lists the groups, so {name} must not be set as well; "
                f"it is, by {found[name][1]}"
            )


def _line_of(text: str, table: str, key: str) -> str:
    """Return ":number" of the line that sets a key; nothing where TOML's ways hide it."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w-]+)\s*\]", line):
            inside = header[1]
        elif inside == table and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return f":{number}"
    return ""


def _parsed(path: Path) -> tuple[str, dict[str, object]]:
    try:
        text = path.read_bytes().decode()
        return text, tomllib.loads(text)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        # Not TOML, or not even UTF-8.
        raise SettingsError(f"{path} is not a TOML file: {error}") from error
