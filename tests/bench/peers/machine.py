"""Names the machine of a comparison, so that figures of two never meet in one table."""

import os
from pathlib import Path

# What decides which kernels run, from the best down.
_UNITS = ("amx_int8", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2")


def machine_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return cores, processor and the best of its units, in one line."""
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    facts = {key.strip(): value.strip() for key, _, value in lines}
    flags = facts.get("flags", "").split()
    best = next((unit for unit in _UNITS if unit in flags), "no vector unit known here")
    family = f"family {facts.get('cpu family', '?')}, model {facts.get('model', '?')}"
    name = facts.get("model name", "an unknown CPU")
    return f"{len(os.sched_getaffinity(0))} cores of {name} ({family}, {best})"
