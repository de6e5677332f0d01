"""`unisono keys`: makes, lists and revokes the API keys in a file.

A key itself is printed once, on standard output, and kept nowhere. A running server learns of a
change with SIGHUP.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway import options
from gateway.options import SettingsError
from gateway.security.key_file import KeyFileError, add_key, read_keys, remove_key
from gateway.security.keys import create_key
from gateway.tenant import KeyScope

VARIABLE = "UNISONO_API_KEYS"
_NEXT = "a running server reads the file on SIGHUP"
_LAST = "it was the last one, and a running server goes on with it until the file has another"


class FileSettings(msgspec.Struct, frozen=True):
    """Which file of keys is meant."""

    file: Annotated[str, Meta(description=f"file of keys; without it: what {VARIABLE} says")] = ""


class NewKeySettings(FileSettings, frozen=True):
    """What a new key may be told."""

    name: Annotated[str, Meta(max_length=200, description="whose it is, for people")] = ""
    scopes: Annotated[
        tuple[Literal["infer", "admin"], ...],
        Meta(min_length=1, description="infer: the model; admin: metrics"),
    ] = ("infer",)
    weight: Annotated[
        float, Meta(ge=0.01, le=100, description="share of the groups when several keys wait")
    ] = 1.0
    max_requests: Annotated[
        int, Meta(ge=0, description="requests it may have open in a worker (0: any number)")
    ] = 0


def run(action: str, flags: Mapping[str, object]) -> int:
    """Carry out one of the commands; return the exit status. Raises SettingsError."""
    given = dict(flags)
    key_id = str(given.pop("key_id", ""))
    kind = NewKeySettings if action == "new" else FileSettings
    settings = options.read(kind, given)
    file = settings.file or os.environ.get(VARIABLE, "")
    if not file:
        raise SettingsError(f"which file of keys? Give --file or set {VARIABLE}")
    try:
        if isinstance(settings, NewKeySettings):
            return _new(Path(file), settings)
        return _revoke(Path(file), key_id) if action == "revoke" else _list(Path(file))
    except KeyFileError as error:
        sys.exit(f"unisono: {error}")


def _new(path: Path, settings: NewKeySettings) -> int:
    key, kept = create_key(
        settings.name,
        map(KeyScope, settings.scopes),
        weight=settings.weight,
        max_requests=settings.max_requests,
    )
    add_key(path, kept)
    print(key)
    print(f"unisono: added to {path}; the key above is not shown again", file=sys.stderr)
    print(f"unisono: {_NEXT}", file=sys.stderr)
    return 0


def _list(path: Path) -> int:
    for key in read_keys(path):
        limit = f"{key.max_requests} requests" if key.max_requests else ""
        scopes = ",".join(sorted(key.scopes))
        print(f"{key.id:12}  {scopes:11}  weight {key.weight:<5g}  {limit:12}  {key.name}".rstrip())
    return 0


def _revoke(path: Path, key_id: str) -> int:
    if not remove_key(path, key_id):
        sys.exit(f"unisono: {path} has no key {key_id}; see unisono keys list")
    print(f"unisono: key {key_id} is gone from {path}", file=sys.stderr)
    print(f"unisono: {_NEXT if read_keys(path) else _LAST}", file=sys.stderr)
    return 0
