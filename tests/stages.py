"""Which files of tests a run needs at all: `-m EXPRESSION` chooses among tests already imported.

To import every file takes longer than many a stage's tests. Which marks the tests of a file may
have is read from its source and from its folder's conftest.py, and a file none of whose tests can
be selected is left out. tests/conftest.py asks this module, and checks what it says of each test.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, combinations
from pathlib import Path

from _pytest.mark.expression import Expression

# Those that select stages; pyproject.toml says what each is for.
STAGE_MARKS = frozenset({"slow", "e2e", "gpu", "numerics"})

_MARK = re.compile(r"\bmark\.(\w+)")
# The statement that marks every test, over several lines if it is a list.
_MARKS_OF_ALL = re.compile(r"^pytestmark = (?:\[[^\]]*\]|[^\n]*)", re.MULTILINE)


def has_candidates(path: Path, expression: str) -> bool:
    """Whether a file, or any file below a folder, may have tests that an expression selects."""
    if not expression:
        return True
    if path.is_dir():
        return any(has_candidates(file, expression) for file in path.rglob("test_*.py"))
    is_selected = Expression.compile(expression).evaluate
    return any(is_selected(_HasMark(marks)) for marks in possible_marks(path))


@dataclass(frozen=True)
class _HasMark:
    """Tells an expression which marks there are."""

    marks: frozenset[str]

    def __call__(self, name: str, /, **values: str | int | bool | None) -> bool:
        return name in self.marks


@cache
def possible_marks(path: Path) -> frozenset[frozenset[str]]:
    """Return every set of the stages' marks that a test of a file may have."""
    sources = [*_sources_of(path)]
    named = {mark for source in sources for mark in _MARK.findall(source)}
    some = STAGE_MARKS & (named | ({"slow"} if "pairwise" in named else set()))
    statements = chain.from_iterable(_MARKS_OF_ALL.findall(source) for source in sources)
    all_of_them = some & {mark for text in statements for mark in _MARK.findall(text)}
    rest = some - all_of_them
    subsets = chain.from_iterable(combinations(rest, size) for size in range(len(rest) + 1))
    return frozenset(all_of_them.union(subset) for subset in subsets)


def _sources_of(path: Path) -> Iterator[str]:
    for file in (path, path.parent / "conftest.py"):
        if file.is_file():
            yield file.read_text()
