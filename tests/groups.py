"""Which tests of real servers stay together, on one of the workers that share them out.

Tests of one file do: they share its servers. So do all files that use a server of the real model,
which is the slowest to start and would otherwise be started by each worker. tests/conftest.py has
xdist schedule so; its own marks of groups, in 3.8, are lost on pytest 9.2.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
_SHARED_SERVER = re.compile(r"\b(?:default|tool)_server\b")


@cache
def group_of(path: str) -> str:
    """Return the group of a file of tests, which is named from the root."""
    is_shared = _SHARED_SERVER.search((ROOT / path).read_text())
    return "the real model's" if is_shared else path


def group_scheduling(config: pytest.Config, log: Any) -> Any:
    """Return what gives a worker that has nothing left the next group, of the largest first."""
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = lambda nodeid: group_of(nodeid.partition("::")[0])
    return scheduling
