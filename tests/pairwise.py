"""Fewer cases of tests with many parameters: each pair of values meets, not each combination.

`@pytest.mark.pairwise` says that what a test tries goes wrong for one value, or for two together.
A few of its cases then hold every pair; all the others become slow, and make test-long runs them.
`@pytest.mark.pairwise(unless=...)` names, as a function of parameters, cases that are skipped and
would hold their pairs in vain. tests/conftest.py calls this for all that is collected.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import pytest

# Of each parameter, the index of its value.
Case = tuple[int, ...]


def mark_redundant_cases(items: list[pytest.Item]) -> None:
    """Mark as slow whatever pairwise tests can do without."""
    cases: dict[tuple[str, str], list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("pairwise"):
            cases[str(item.path), item.originalname].append(item)
    for those in cases.values():
        tried = [item for item in those if not _is_skipped(item)]
        needed = covering([tuple(item.callspec.indices.values()) for item in tried])
        kept = {tried[index].nodeid for index in needed}
        for item in those:
            if item.nodeid not in kept:
                item.add_marker(pytest.mark.slow)


def covering(cases: Sequence[Case]) -> list[int]:
    """Return the indices of some cases that hold every pair of values that any case holds.

    cases: all of the same length; of one parameter, each value stands for itself.
    Greedy: first those with nothing but new pairs, last those with a single one.
    """
    pairs = [{*combinations(enumerate(case), min(2, len(case)))} for case in cases]
    missing = set().union(*pairs)
    chosen = []
    for num_new in range(max(map(len, pairs), default=0), 0, -1):
        for index, own in enumerate(pairs):
            if len(own & missing) >= num_new:
                chosen.append(index)
                missing -= own
    return sorted(chosen)


def _is_skipped(item: pytest.Function) -> bool:
    mark = item.get_closest_marker("pairwise")
    assert mark is not None
    unless: Callable[..., Any] = mark.kwargs.get("unless", lambda: False)
    names = inspect.signature(unless).parameters
    return bool(unless(**{name: item.callspec.params[name] for name in names}))
