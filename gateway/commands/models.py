"""`unisono models`: which models can be served, by the names their files give, and how that was
checked."""

import sys
from collections.abc import Iterable, Mapping

import msgspec

from backend.config.architectures import families
from backend.config.families.family import Family

CHECKED = """\
Every family: logits of small random models equal those of transformers' float32 forward (prefill,
chunks, decode, two and three ranks); beside that, where said: real weights.
"""


class Row(msgspec.Struct):
    """A family as a line of the list."""

    family: str
    models: str
    config_json: tuple[str, ...]
    gguf: tuple[str, ...]
    checked: str


def run(given: Mapping[str, object]) -> int:
    """Print the families; return the exit status."""
    rows = [_row(family) for family in families()]
    as_json = msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n"
    sys.stdout.write(as_json if given.get("as_json") else table(rows))
    return 0


def table(rows: Iterable[Row]) -> str:
    """Write the families one below the other, each with its names."""
    lines = []
    for row in rows:
        lines.append(f"{row.family:<12} {row.models}".rstrip())
        names = [("config.json", row.config_json), ("GGUF", row.gguf)]
        lines += [f"  {kind:<11} {', '.join(theirs)}" for kind, theirs in names if theirs]
        if row.checked:
            lines.append(f"  checked     {row.checked}")
    return "\n".join([*lines, "", CHECKED])


def _row(family: Family) -> Row:
    return Row(family.name, family.models, family.huggingface, family.gguf, family.checked)
