"""What the memory limits of this process's cgroups leave: its own and those above it.

It knows versions 1 and 2, and no torch. A container sees its own cgroup at the root, whatever path
the kernel names. Called by memory.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class _Files:
    """What one version calls its files. cache: fields of memory.stat that can be reclaimed."""

    limit: str
    used: str
    cache: tuple[str, str]


_VERSION_1 = _Files(
    "memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")
)
_VERSION_2 = _Files("memory.max", "memory.current", ("inactive_file", "active_file"))


def left_bytes(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Return what may still be taken within every limit; None where there is none.

    Pages of files do not count as taken: a model that was read before is not a reason against
    reading it again.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    headrooms = [headroom for line in lines for headroom in _headrooms(root, line)]
    return min(headrooms, default=None)


def _headrooms(root: Path, line: str) -> Iterator[int]:
    """Yield what each limit of one hierarchy leaves. line: proc's number:controllers:path."""
    _, controllers, path = line.split(":", 2)
    if not controllers:
        files = _VERSION_2
    elif "memory" in controllers.split(","):
        root, files = root / controllers, _VERSION_1
    else:
        return
    directory = root / path.strip("/")
    if not directory.is_dir():
        directory = root
    for level in (directory, *directory.parents):
        if (headroom := _headroom(level, files)) is not None:
            yield headroom
        if level == root:
            return


def _headroom(directory: Path, files: _Files) -> int | None:
    try:
        limit = int((directory / files.limit).read_text())
        used = int((directory / files.used).read_text())
        stat = (directory / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such file at the root, "max" for no limit
        return None
    fields = dict(line.split() for line in stat)
    return limit - used + sum(int(fields.get(name, 0)) for name in files.cache)
