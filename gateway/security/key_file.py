"""The file of API keys: TOML, one table `[[keys]]` a key, nothing in it that opens anything.

Owns reading it with clear refusals, and changes that keep the rest of it as its owner wrote it.
Called by the keyring and by `unisono keys`.
"""

import contextlib
import fcntl
import grp
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.security.keys import ApiKey

# A table ends where the next begins.
_TABLE = re.compile(r"(?m)^(?=[ \t]*\[\[keys\]\])")
_HEADER = "# API keys of a Unisono server, made by `unisono keys new`. Secrets are not in here.\n"


class KeyFileError(ValueError):
    """A key file cannot be used. The message names it and says why, without its content."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[ApiKey] = []


def read_keys(path: Path, *, may_be_empty: bool = True) -> list[ApiKey]:
    """Return the keys of a file. Raises KeyFileError, also if there is none but must be."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        is_absent = isinstance(error, FileNotFoundError)
        hint = f"\nmake it: unisono keys new --file {path}" if is_absent else ""
        reason = unreadable(path, error) if isinstance(error, OSError) else "it is not UTF-8"
        raise KeyFileError(f"{path} cannot be read: {reason}{hint}") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeyFileError(f"{path} may be changed by others than its owner; chmod go-w {path}")
    keys = _parse(text, path)
    if not keys and not may_be_empty:
        raise KeyFileError(
            f"{path} has no keys\n"
            f"make one: unisono keys new --file {path}\n"
            "or let in those who send no key: --allow-anonymous"
        )
    return keys


def unreadable(path: Path, error: OSError) -> str:
    """Say why a file of secrets cannot be read, and what helps where it is only its mode."""
    reason = error.strerror or str(error)
    if not isinstance(error, PermissionError):
        return reason
    return (
        f"{reason}\nthe server's group may read it: chgrp {_own_group()} {path}; chmod 640 {path}"
    )


def _own_group() -> str:
    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:  # a container's, say
        return str(os.getegid())


def add_key(path: Path, key: ApiKey) -> None:
    """Write a key at the end of a file; a new one only its owner can read. Raises KeyFileError."""
    with _locked(path):
        text = path.read_text() if path.exists() else _HEADER
        _parse(text, path)
        _replace(path, f"{text.rstrip()}\n\n{_table(key)}")


def remove_key(path: Path, key_id: str) -> bool:
    """Take a key out of a file; False if it has none of that id. Raises KeyFileError."""
    with _locked(path):
        read_keys(path)
        tables = _TABLE.split(path.read_text())
        left = [table for table in tables if not any(k.id == key_id for k in _parse(table, path))]
        if len(left) == len(tables):
            return False
        _replace(path, "".join(left).rstrip() + "\n")
        return True


def _parse(text: str, path: Path) -> list[ApiKey]:
    try:
        keys = msgspec.convert(tomllib.loads(text), _File).keys
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise KeyFileError(f"{path} is not a file of keys: {error}") from error
    ids = [key.id for key in keys]
    if twice := {key_id for key_id in ids if ids.count(key_id) > 1}:
        raise KeyFileError(f"{path} has several keys of id {min(twice)}")
    return keys


def _table(key: ApiKey) -> str:
    scopes = ", ".join(f'"{scope}"' for scope in sorted(key.scopes))
    lines = ["[[keys]]", f'id = "{key.id}"', f'sha256 = "{key.sha256}"', f"scopes = [{scopes}]"]
    if key.name:
        lines.append(f"name = {_quoted(key.name)}")
    if key.weight != 1.0:
        lines.append(f"weight = {float(key.weight)}")
    if key.max_requests:
        lines.append(f"max_requests = {key.max_requests}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # A JSON string is a basic string of TOML, but for DEL, which TOML wants escaped.
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other changes out meanwhile."""
    try:
        directory = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeyFileError(f"{path.absolute().parent}: {error.strerror}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, whole; its mode and owner stay."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "w") as file:
            if path.exists():
                old = path.stat()
                os.fchmod(fd, stat.S_IMODE(old.st_mode))
                if (old.st_uid, old.st_gid) != (os.getuid(), os.getgid()):
                    os.fchown(fd, old.st_uid, old.st_gid)
            file.write(text)
            file.flush()
            os.fsync(fd)
        new.replace(path)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from error
