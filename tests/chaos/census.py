"""What a server holds: processes, descriptors, memory, KV blocks. Read from outside.

A run takes a census when the server is fresh and warm, and another when all is over; nothing may
have been left behind.
"""

import http.client
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.clients import request
from tests.e2e.server import Server, processes_of

# Allocators keep what they once had; the second census may show this much more, and a share of
# the first.
RSS_SLACK_BYTES = 48 << 20
RSS_SLACK_SHARE = 0.15
PLACER = "unisono: placer"


@dataclass(frozen=True)
class Census:
    """By the title of a process: its open descriptors and resident bytes. free_blocks: by group."""

    num_processes: int
    num_fds: dict[str, int]
    rss_bytes: dict[str, int]
    free_blocks: dict[int, int]

    def left_behind(self, before: "Census") -> list[str]:
        """What there is now beyond what there was before."""
        found = []
        if self.num_processes > before.num_processes:
            found.append(f"{self.num_processes} processes, {before.num_processes} before")
        if self.free_blocks != before.free_blocks:
            found.append(f"free KV blocks {self.free_blocks}, {before.free_blocks} before")
        for title, count in self.num_fds.items():
            if count > before.num_fds.get(title, 0):
                found.append(f"{title}: {count} descriptors, {before.num_fds.get(title)} before")
        for title, size in self.rss_bytes.items():
            was = before.rss_bytes.get(title, 0)
            if size > was * (1 + RSS_SLACK_SHARE) + RSS_SLACK_BYTES:
                found.append(f"{title}: {size >> 20} MiB resident, {was >> 20} before")
        return found


def take_census(server: Server) -> Census:
    """Count. Raises OSError if a process ends meanwhile."""
    # Ray's client keeps connections to every node that ever was.
    named = {title: pid for title, pid in server.processes.items() if title != PLACER}
    return Census(
        len(processes_of(server.session)),
        {title: len(list(Path(f"/proc/{pid}/fd").iterdir())) for title, pid in named.items()},
        {title: _rss_bytes(pid) for title, pid in named.items()},
        {group["group"]: group["free_blocks"] for group in groups_of(server)},
    )


def is_ready(server: Server, num_groups: int) -> bool:
    """Whether every group takes work."""
    groups = groups_of(server)
    return len(groups) == num_groups and all(group["ready"] for group in groups)


def is_whole(server: Server, num_groups: int) -> bool:
    """Whether every group takes work and holds none."""
    groups = groups_of(server)
    return len(groups) == num_groups and all(
        group["ready"]
        and group["running"] == group["waiting"] == 0
        and group["free_blocks"] == group["total_blocks"]
        for group in groups
    )


def groups_of(server: Server) -> list[dict[str, Any]]:
    """The groups as /health tells; none if no worker answers just now."""
    try:
        groups: list[dict[str, Any]] = request(server.url, "GET", "/health")[2]["groups"]
    except (OSError, http.client.HTTPException, ValueError):
        return []
    return groups


def _rss_bytes(pid: int) -> int:
    match = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else 0
