"""What groups are called. Several may share a name: a request that names one goes to any of those.

Knows numbers and names, no processes. Written by the supervisor, read by the pool of each worker.
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

# Of groups that are called nothing; Takeoff's word.
PRIMARY = "primary"

GroupName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}\Z",
        extra={"wanted": "a name of up to 64 letters, digits and any of . _ : / -"},
    ),
]

# A host name, an address of either kind or an id of Ray's; none for any node.
NodeName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9._:-]{0,253}\Z",
        extra={"wanted": "the name, the address or the id of a node"},
    ),
]


class GroupNames:
    """The names of all groups there are, whatever state they are in.

    listed: each name once, that of the lowest number first.
    """

    def __init__(self, by_number: Mapping[int, str] | None = None) -> None:
        """by_number: of groups; one that is not in it is called PRIMARY."""
        self.set(by_number or {})

    def set(self, by_number: Mapping[int, str]) -> None:
        """Forget all names and know these."""
        self._by_number = dict(by_number)
        names = [self._by_number[number] for number in sorted(self._by_number)]
        self.listed = tuple(dict.fromkeys(names)) or (PRIMARY,)
        self._default = PRIMARY if PRIMARY in self.listed else self.listed[0]

    def __contains__(self, name: str) -> bool:
        return name in self.listed

    def of(self, number: int) -> str:
        """Return what a group is called."""
        return self._by_number.get(number, PRIMARY)

    def resolve(self, name: str) -> str:
        """Return the name of the groups that answer for a name.

        For none, and for one that no group has any more, those are the ones called PRIMARY; where
        none is called so, those that are called as the first is.
        """
        return name if name in self.listed else self._default
