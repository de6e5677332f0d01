"""`unisono config`: what `unisono serve` with the same flags would be told, and by whom.

The text is a settings file with the sources as comments, and with what would compute on this
machine's CPU. Secrets are shown only to be set.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from backend import native
from backend.config.errors import ModelError
from backend.native import level as native_level
from gateway.planning.stage_lines import stage_lines
from gateway.sampling_defaults import load_sampling_defaults
from gateway.setting_sources import SAID_BY_GROUPS, Loaded, load
from gateway.settings import setting_options

_SECRETS = frozenset({"hf_token"})
_HIDDEN = "(set)"


def run(given: Mapping[str, Any]) -> int:
    """Print the effective settings; return the exit status. Raises SettingsError."""
    flags = dict(given)
    config: Path | None = flags.pop("config", None)
    as_json = flags.pop("as_json", False)
    loaded = load(flags, os.environ, config)
    sys.stdout.write(as_json_text(loaded) if as_json else as_text(loaded))
    return 0


def as_text(loaded: Loaded) -> str:
    """Write what a person wants to know: comments, then the settings as a file."""
    notes = "".join(f"# {note}\n" for note in loaded.notes)
    comments = compute_comment(loaded) + stages_comment(loaded) + sampling_comment(loaded)
    return notes + comments + as_toml(loaded)


def sampling_comment(loaded: Loaded) -> str:
    """Say what requests have that do not say, as a comment; nothing for what is not on this disk.

    A model that is yet to be fetched, or the default one, has its own words at start.
    """
    server, path = loaded.settings.server, Path(loaded.settings.engine.model)
    if not loaded.settings.engine.model or not path.exists():
        return ""
    try:
        sampling = load_sampling_defaults(
            path, server.generation_config, server.override_generation_config
        )
    except ModelError as error:
        words = str(error)
    else:
        words = f"{str(sampling) or 'as OpenAI has it'}, where a request does not say"
    return "".join(f"# {line}\n" for line in f"sampling: {words}".splitlines()) + "\n"


def stages_comment(loaded: Loaded) -> str:
    """Say which layers each stage would have, and how many bytes of the file, as a comment; nothing
    of one stage, or of a model that is not on this disk."""
    engine = loaded.settings.engine
    if engine.pp == 1 or not engine.model or not Path(engine.model).exists():
        return ""
    try:
        lines = stage_lines(engine.model, engine.pp)
    except ModelError as error:
        lines = str(error).splitlines()
    return "".join(f"# {line}\n" for line in lines) + "\n"


def compute_comment(loaded: Loaded) -> str:
    """Say at which level and in what arithmetic a CPU would compute, as lines of comment."""
    engine = loaded.settings.engine
    try:
        words = native_level.describe(
            engine.kernels, engine.activations, engine.dtype, native.levels(), native.absence
        )
    except ValueError as error:
        words = str(error)
    return "".join(f"# {line}\n" for line in f"on a CPU: {words}".splitlines()) + "\n"


def as_toml(loaded: Loaded) -> str:
    """Write the settings as a file that sets them all."""
    lines: list[str] = []
    for table, values in _tables(loaded).items():
        rows = [(f"{name} = {_toml(value)}", source) for name, value, source in values]
        width = min(max(len(text) for text, _ in rows), 48)
        lines += [f"[{table}]", *(f"{text:<{width}}  # {source}" for text, source in rows), ""]
    for group in loaded.settings.groups:
        fields = msgspec.structs.asdict(group)
        lines += ["[[groups]]", *(f"{name} = {_toml(fields[name])}" for name in fields), ""]
    return "\n".join(lines)


def as_json_text(loaded: Loaded) -> str:
    """Write the settings as one JSON object: table, name, then value and source."""
    tables: dict[str, object] = {
        table: {name: {"value": value, "source": source} for name, value, source in values}
        for table, values in _tables(loaded).items()
    }
    if loaded.settings.groups:
        tables["groups"] = loaded.settings.groups
    return msgspec.json.format(msgspec.json.encode(tables)).decode() + "\n"


def _tables(loaded: Loaded) -> dict[str, list[tuple[str, object, str]]]:
    structs = {"server": loaded.settings.server, "engine": loaded.settings.engine}
    tables = {}
    for table, options in setting_options().items():
        rows = []
        for option in options:
            if loaded.settings.groups and option.name in SAID_BY_GROUPS:
                continue
            value = getattr(structs[table], option.name)
            if option.name in _SECRETS and value:
                value = _HIDDEN
            rows.append((option.name, value, loaded.sources[option.name]))
        tables[table] = rows
    return tables


def _toml(value: object) -> str:
    # A JSON number, string, boolean or list of strings is TOML, too; an object is not.
    if isinstance(value, msgspec.Struct | dict):
        fields: dict[str, object] = msgspec.to_builtins(value)
        given = {name: item for name, item in fields.items() if item is not None}  # TOML's null
        pairs = [f"{_toml(name)} = {_toml(item)}" for name, item in given.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()
