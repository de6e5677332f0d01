"""What the kernel knows of a process: the one reader of /proc/PID, see proc(5).

Knows pids, not what they are to us.
"""

import os
import time
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Places in /proc/PID/stat behind the command's name, and a bit of the first.
_FLAGS, _MAJOR_FAULTS, _USER_TICKS, _SYSTEM_TICKS = 6, 9, 11, 12
_START_TICKS, _RSS_PAGES, _EXIT_CODE = 19, 21, 49
_SESSION = 3
_PF_EXITING = 0x4


def stat_fields(pid: int) -> list[str]:
    """Return what follows the command's name: state, parent, group, session, ...

    Raises OSError for a process that is gone.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def cpu_seconds(pid: int) -> float:
    """Return the user and system time that a process has used. Raises OSError if it is gone."""
    return _cpu_seconds(stat_fields(pid))


def exact_cpu_seconds(pid: int) -> float:
    """Return the same to the nanosecond, of the threads that live; ticks where the kernel does not
    count so (CONFIG_SCHED_INFO). Raises OSError if the process is gone."""
    try:
        files = Path(f"/proc/{pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9
    except (OSError, IndexError):
        return cpu_seconds(pid)


def machine_cpu_seconds() -> float:
    """Return the time that all cores have worked, for whomever, other virtual machines included."""
    ticks = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    # user nice system idle iowait irq softirq steal; guests are counted in user.
    return sum(int(ticks[n]) for n in (0, 1, 2, 5, 6, 7)) / _TICKS_A_SECOND


def usage(pid: int) -> tuple[float, int] | None:
    """Return the CPU seconds and resident bytes of a process; None for one that is gone."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return None
    return _cpu_seconds(fields), int(fields[_RSS_PAGES]) * _PAGE_BYTES


def began_s(pid: int) -> float:
    """Return when a process was started, CLOCK_MONOTONIC seconds. Raises OSError if it is gone."""
    start_s = int(stat_fields(pid)[_START_TICKS]) / _TICKS_A_SECOND
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - start_s
    return time.monotonic() - age_s


def rss_bytes(pid: int) -> int:
    """Resident memory; 0 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def pss_bytes(pid: int) -> int:
    """Resident memory, each page shared out among the processes that have it; 0 for one that is
    gone, or that we may not look at."""
    return _rollup_bytes(pid, ("Pss:",))


def written_bytes(pid: int) -> int:
    """The same without pages of files, such as libraries: how many processes share those changes
    with what else runs on a machine."""
    return _rollup_bytes(pid, ("Pss_Anon:", "Pss_Shmem:"))


def _rollup_bytes(pid: int, fields: tuple[str, ...]) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(fields))


def of_session(session: int) -> list[int]:
    """Return the pids of a session's living processes, whoever their parents are by now."""
    return [pid for pid in _pids() if _is_alive_in(session, pid)]


def command_line(pid: int) -> str:
    """Return what `ps` shows of a process, "" for one that is gone."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return command.replace(b"\0", b" ").decode(errors="replace").strip()


def is_stopped(pid: int) -> bool:
    """Whether a signal or a debugger has stopped it: it cannot answer one, then."""
    try:
        return stat_fields(pid)[0] in ("t", "T")
    except OSError:
        return False


def dying_code(pid: int) -> int | None:
    """Return the exit code of a process that has begun to die, minus the signal if one ended it;
    None if it has not begun, or the kernel does not show us the code, or it is 0.

    A pidfd tells only of those whose memory has been given back: that takes the kernel 0.1 to 1 ms
    a MiB, in which no line of theirs runs any more.
    """
    try:
        fields = stat_fields(pid)
    except OSError:
        return None
    if not int(fields[_FLAGS]) & _PF_EXITING:
        return None
    return os.waitstatus_to_exitcode(int(fields[_EXIT_CODE])) or None


def effort(pid: int) -> float | None:
    """Return what a process has done so far: seconds of CPU time and MiB that it has read, by call
    or by touching a mapped file. None for one that is gone, or that we may not look at."""
    try:
        fields = stat_fields(pid)
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    io = {name: int(value) for name, value in (line.split(": ") for line in lines)}
    num_bytes = io["rchar"] + io["read_bytes"] + int(fields[_MAJOR_FAULTS]) * _PAGE_BYTES
    return _cpu_seconds(fields) + num_bytes / (1 << 20)


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


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _is_alive_in(session: int, pid: int) -> bool:
    try:
        fields = stat_fields(pid)
    except OSError:
        return False  # it ended while we looked
    return fields[0] not in ("Z", "X") and int(fields[_SESSION]) == session


def _cpu_seconds(fields: list[str]) -> float:
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / _TICKS_A_SECOND
