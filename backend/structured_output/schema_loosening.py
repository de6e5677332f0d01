"""Finds which keywords of a JSON schema keep it from being used, and does without them.

The library says what is wrong with a schema, not where. Owns the search: what must go for the rest
to be enforced. Must not know what makes a schema usable; it is told. Called by the gateway's
process that compiles grammars.
"""

from collections.abc import Callable, Sequence
from typing import Any

from backend.structured_output.json_schema import PreparedSchema, Schema, SchemaFault

# Raises ValueError, one line for the caller, if no output can be held to a schema.
Attempt = Callable[[Schema], None]
Path = tuple[str | int, ...]

# The likelier a keyword is too much for the library, the further on it stands. What makes up an
# object goes last: an output without it would be of no use.
_ORDER = (
    *("type", "properties", "required", "items", "prefixItems", "additionalProperties"),
    *("additionalItems", "$ref", "enum", "const", "anyOf", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "multipleOf"),
    *("minProperties", "maxProperties", "minLength", "maxLength", "format", "allOf", "oneOf"),
    *("patternProperties", "pattern"),
)
_RANKS = {keyword: rank for rank, keyword in enumerate(_ORDER)}
# From here on they are refinements: without all of them a schema still has its form.
_FIRST_REFINEMENT = _RANKS["minimum"]
# Each costs a dozen compilations.
_MAX_SEARCHES = 8
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
_LEAVES = frozenset(("enum", "const", "required", "type", "default", "examples", "description"))


def enforceable(prepared: PreparedSchema, attempt: Attempt, *, is_strict: bool) -> PreparedSchema:
    """Return as much of a schema as can be enforced.

    is_strict: raises SchemaFault for the first keyword that cannot be.
    Raises ValueError if nothing of the schema can.
    """
    search = _Search(prepared.schema, attempt)
    reason = search.reason()
    if reason is None:
        return prepared
    culprit = search.next_culprit()
    if culprit is None:
        raise ValueError(reason)
    if is_strict:
        raise SchemaFault(_shown(culprit), reason)
    for _ in range(_MAX_SEARCHES):
        search.leave_out([culprit])
        if search.reason() is None:
            break
        culprit = search.next_culprit()
        if culprit is None:
            raise ValueError(reason)
    else:
        search.leave_out([path for path in search.paths if _rank(path) >= _FIRST_REFINEMENT])
        if search.reason() is not None:
            search.leave_out(search.paths)
    left_out = [_shown(path) for path in search.left_out]
    return PreparedSchema(search.schema, [*prepared.not_enforced, *left_out])


class _Search:
    """A schema that shrinks. paths: of the keywords it still has, the likeliest culprits last."""

    def __init__(self, schema: Schema, attempt: Attempt) -> None:
        self.left_out: list[Path] = []
        self.paths = sorted(_paths(schema, ()), key=_rank)
        self._whole = schema
        self._attempt = attempt

    @property
    def schema(self) -> Schema:
        """What is left."""
        return _less(self._whole, frozenset(self.left_out))

    def reason(self, num_kept: int | None = None) -> str | None:
        """Say why the first so many keywords cannot be enforced; None if they can."""
        dropped = [] if num_kept is None else self.paths[num_kept:]
        try:
            self._attempt(_less(self._whole, frozenset([*self.left_out, *dropped])))
        except ValueError as error:
            return str(error)
        return None

    def next_culprit(self) -> Path | None:
        """Return the first keyword that cannot be enforced with those before it.

        All together cannot be. None if nothing can, even without any keyword.
        """
        if self.reason(0) is not None:
            return None
        good, bad = 0, len(self.paths)
        while bad - good > 1:
            middle = (good + bad) // 2
            if self.reason(middle) is None:
                good = middle
            else:
                bad = middle
        return self.paths[good]

    def leave_out(self, paths: Sequence[Path]) -> None:
        """Do without some keywords from now on."""
        gone = frozenset(paths)
        self.left_out += paths
        self.paths = [path for path in self.paths if path not in gone]


def _paths(schema: Any, path: Path) -> list[Path]:
    """Return the paths of all keywords that may go."""
    found: list[Path] = []
    if isinstance(schema, list):
        for number, each in enumerate(schema):
            found += _paths(each, (*path, number))
    if not isinstance(schema, dict):
        return found
    for keyword, value in schema.items():
        here = (*path, keyword)
        if keyword in _RANKS:
            found.append(here)
        if keyword in _MAPS and isinstance(value, dict):
            for name, each in value.items():
                found += _paths(each, (*here, name))
        elif keyword not in _LEAVES:
            found += _paths(value, here)
    return found


def _less(schema: Schema, left_out: frozenset[Path], path: Path = ()) -> Schema:
    """Return a schema without some of its keywords; oneOf becomes anyOf, which allows more."""
    kept: Schema = {}
    for keyword, value in schema.items():
        here = (*path, keyword)
        if here not in left_out:
            kept[keyword] = value if keyword in _LEAVES else _within(keyword, value, left_out, here)
        elif keyword == "oneOf" and "anyOf" not in schema:
            kept["anyOf"] = _within(keyword, value, left_out, here)
    return kept


def _within(keyword: str, value: Any, left_out: frozenset[Path], path: Path) -> Any:
    """Do what _less() does, in the value of a keyword."""
    if isinstance(value, list):
        return [_within("", each, left_out, (*path, n)) for n, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if keyword in _MAPS:
        return {name: _within("", each, left_out, (*path, name)) for name, each in value.items()}
    return _less(value, left_out, path)


def _rank(path: Path) -> int:
    return _RANKS[str(path[-1])]


def _shown(path: Path) -> str:
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")
