"""What a figure was made with: the machine, its level of instructions, versions and commit.

Figures of two machines must never meet in one table. Knows no measurements.
"""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec

# What decides which kernels run, from the best down.
_UNITS = ("amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2")
_SOURCE = Path(__file__).parents[2]


class Conditions(msgspec.Struct, frozen=True):
    """What stands in every report. machine: where the client ran; level: the best instructions of
    its processor; server: what answered, in its own words, where it has any."""

    measured_at: str
    machine: str
    level: str
    versions: dict[str, str]
    commit: str
    command: str = ""
    server: str = ""

    @classmethod
    def now(cls, command: str = "", server: str = "") -> "Conditions":
        """Ask this machine."""
        return cls(
            measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine_name(),
            level=processor_level(),
            versions=versions(),
            commit=commit(),
            command=command,
            server=server,
        )

    def lines(self) -> list[tuple[str, str]]:
        """Name and value of each fact that is known."""
        together = ", ".join(f"{name} {value}" for name, value in self.versions.items())
        facts = [
            ("machine", self.machine),
            ("instructions", self.level),
            ("versions", together),
            ("commit", self.commit),
            ("server", self.server),
            ("command", self.command),
            ("measured at", self.measured_at),
        ]
        return [(name, value) for name, value in facts if value]


def machine_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return cores, processor and the best of its units, in one line."""
    facts = _facts(cpuinfo)
    family = f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"
    name = facts.get("model name", "an unknown CPU")
    level = processor_level(cpuinfo)
    return f"{len(os.sched_getaffinity(0))} cores of {name} ({family}, {level})"


def processor_level(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the best instructions that kernels could use here."""
    flags = _facts(cpuinfo).get("flags", "").split()
    return next((unit for unit in _UNITS if unit in flags), "no vector unit known here")


def versions() -> dict[str, str]:
    """Return what is installed of what decides about speed."""
    found = {"Python": platform.python_version(), "Linux": platform.release()}
    for package in ("unisono", "torch", "uvloop"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(source: Path = _SOURCE) -> str:
    """Return the commit of the source tree that runs, "" for an installed package."""
    if not (source / ".git").exists():
        return ""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=source,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return described.stdout.strip()


def _facts(cpuinfo: Path) -> dict[str, str]:
    """Return the fields of the last processor; the others are like it."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}
