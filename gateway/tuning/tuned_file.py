"""The file that a tuning leaves: settings that `unisono serve --config` takes, and why."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from backend.settings import EngineSettings
from gateway.options import SettingsError
from gateway.setting_sources import load

# What such a file begins with.
FOUND = "Found by unisono tune"


def check_replaceable(path: Path) -> None:
    """Raise SettingsError for a file that a person wrote: tuning leaves another in its place."""
    try:
        with path.open("rb") as file:
            start = file.read(100).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"--out {path}: it cannot be read: {error.strerror}") from None
    if start.strip() and not start.startswith(f"# {FOUND}"):
        raise SettingsError(
            f"--out {path}: it is there, and not from unisono tune; name another file"
        )


def write_tuned(path: Path, values: Mapping[str, Any], comments: Sequence[str]) -> None:
    """Write the settings of an engine, checked by reading them back; what was there is replaced.

    Raises SettingsError if `serve` would not take them, OSError.
    """
    lines = [*(f"# {line}".rstrip() for line in comments), "", "[engine]"]
    lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
    scratch = path.with_name(f"{path.name}.new")
    scratch.write_text("\n".join([*lines, ""]), encoding="utf-8")
    try:
        check_tuned(scratch, values)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def check_tuned(path: Path, values: Mapping[str, Any]) -> None:
    """Raise SettingsError unless `unisono serve --config` makes these settings of a file."""
    found = load({}, {}, path).settings.engine
    if found != EngineSettings(**values):
        raise SettingsError(f"{path} does not say what was found: {found}")


def _toml(value: object) -> str:
    """A JSON number, string, boolean or list of strings is TOML, too."""
    if isinstance(value, tuple):
        value = [*value]
    return msgspec.json.encode(value).decode()
