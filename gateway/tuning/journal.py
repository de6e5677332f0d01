"""Keeps every trial the moment it is done, so that a tuning that was cut off goes on where it was.

One JSON object a line: first what the trials are of, then the trials. A last line that was cut off
counts as not written.
"""

from pathlib import Path
from typing import Any

import msgspec

from gateway.tuning.trial import Trial


class JournalError(ValueError):
    """The file is of other measurements, or none of ours. Says which and what to do."""


class Entry(msgspec.Struct, frozen=True):
    """stage: the race it was of. settings: of the server, all that differ from the defaults."""

    stage: str
    name: str
    round: int
    settings: dict[str, Any]
    trial: Trial


class Journal:
    """The trials of one file."""

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        """Read what is there, or begin. conditions: what must be equal for trials to be compared.

        Raises JournalError, OSError.
        """
        self._path = path
        self._trials: dict[str, Trial] = {}
        head = msgspec.json.encode(conditions)
        lines = path.read_bytes().splitlines() if path.exists() else []
        if not lines:
            path.write_bytes(head + b"\n")
            return
        self._check(lines[0], conditions)
        for line in lines[1:]:
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.DecodeError:
                continue
            self._trials[_key(entry.stage, entry.name, entry.round, entry.settings)] = entry.trial
        if not path.read_bytes().endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")

    def __len__(self) -> int:
        return len(self._trials)

    def find(self, stage: str, name: str, round_: int, settings: dict[str, Any]) -> Trial | None:
        """Return a trial that was kept."""
        return self._trials.get(_key(stage, name, round_, settings))

    def keep(
        self, stage: str, name: str, round_: int, settings: dict[str, Any], trial: Trial
    ) -> None:
        """Write a trial down."""
        self._trials[_key(stage, name, round_, settings)] = trial
        entry = Entry(stage, name, round_, settings, trial)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")

    def _check(self, line: bytes, conditions: dict[str, Any]) -> None:
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            raise JournalError(
                f"{self._path} holds no trials of unisono tune\nname another file with --results"
            ) from None
        given = msgspec.json.decode(msgspec.json.encode(conditions))
        other = [name for name in given if found.get(name) != given[name]]
        if other:
            name = other[0]
            raise JournalError(
                f"{self._path} holds trials of another {name}: {found.get(name)}, "
                f"not {given[name]}\nremove it to begin anew, or name another file with --results"
            )


def _key(stage: str, name: str, round_: int, settings: dict[str, Any]) -> str:
    ordered = msgspec.json.encode(dict(sorted(settings.items()))).decode()
    return f"{stage}|{name}|{round_}|{ordered}"
