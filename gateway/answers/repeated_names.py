"""Looks, once an answer under a JSON schema is complete, for names that it has twice in one object.

A grammar sees each member by itself, and who reads the JSON keeps the last of those with one name:
a member that has a schema could be replaced by one that was let pass as another. Knows no HTTP.
Used by choice.py.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from backend.structured_output.json_schema import declared_names
from backend.wire.sampling import Grammar


class RepeatedName(Exception):
    """A name that an object has twice. The message is for the caller."""


def guarded_names(grammar: Grammar | None) -> frozenset[str]:
    """Return the names that no object of an answer may have twice; none where all may.

    "" among them: any name is one.
    """
    if grammar is None or grammar.kind != "json_schema":
        return frozenset()
    return frozenset(declared_names(msgspec.json.decode(grammar.text)))


def check_names(text: str, guarded: frozenset[str]) -> None:
    """Raise RepeatedName for JSON that may break its schema once it is read.

    What is no JSON was cut off, and nothing is said of it.
    """

    def check(members: Sequence[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in members:
            if name in seen and ("" in guarded or name in guarded):
                shown = json.dumps(name[:64])
                raise RepeatedName(f"The answer breaks its schema: an object has {shown} twice.")
            seen.add(name)

    try:
        json.loads(text, object_pairs_hook=check)
    except (ValueError, RecursionError):
        return
