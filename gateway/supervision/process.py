"""What the kernel knows of a process."""

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Of /proc/PID/stat behind the command's name, see proc(5), and a bit of the first.
_FLAGS, _MAJOR_FAULTS, _USER_TICKS, _SYSTEM_TICKS, _EXIT_CODE = 6, 9, 11, 12, 49
_PF_EXITING = 0x4


def rss_bytes(pid: int) -> int:
    """Resident memory; 0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger has stopped it: it cannot answer one, then."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "tT"
    except OSError:
        return False


def dying_code(pid: int) -> int | None:
    """Return the exit code of a process that has begun to die, minus the signal if one ended it;
    None if it has not begun, or the kernel does not show us the code, or it is 0.

    A pidfd tells only of those whose memory has been given back: that takes the kernel 0.1 to 1 ms
    a MiB, in which no line of theirs runs any more.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    if not int(fields[_FLAGS]) & _PF_EXITING:
        return None
    return os.waitstatus_to_exitcode(int(fields[_EXIT_CODE])) or None


def effort(pid: int) -> float | None:
    """Return what a process has done so far: seconds of CPU time and MiB that it has read, by call
    or by touching a mapped file. None for one that is gone, or that we may not look at."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    io = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    num_bytes = io["rchar"] + io["read_bytes"] + int(fields[_MAJOR_FAULTS]) * _PAGE_BYTES
    return ticks / _TICKS_A_SECOND + num_bytes / (1 << 20)


def num_threads(pid: int) -> int:
    """Threads it has now, those of its libraries included; 0 for a process that is gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def oom_kills() -> int | None:
    """Processes of this machine that the kernel has killed for their memory; None if not told."""
    try:
        counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(counters["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None
