"""Processes that a process has started."""

import contextlib
from pathlib import Path


def children_of(pid: int) -> set[int]:
    """Return the ids of those that live, or have not been reaped."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        # The kernel may see a thread end that Python has seen end.
        with contextlib.suppress(OSError):
            found |= {int(child) for child in task.read_text().split()}
    return found
