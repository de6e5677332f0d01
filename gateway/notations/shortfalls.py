"""What of a tool's schema the calls of a notation cannot be held to.

Notations that are not JSON carry less of a schema than JSON does. Raised and listed by who writes
grammars; whoever asked for the grammar says what a strict tool, or another, comes to.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shortfall:
    """function: the name of the tool. path: of the keyword, as in `properties.code.pattern`."""

    function: str
    path: str
    reason: str


class NotCarried(ValueError):
    """A keyword that cannot be held. path: from the schema at hand; the message says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


def joined(path: str, name: str) -> str:
    """Return the path of a keyword or member below another one."""
    return f"{path}.{name}" if path and name else path or name
