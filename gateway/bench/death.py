"""Why a server that was started for a measurement does not serve, in the words of a report.

Knows what servers and libraries say when memory runs out; knows no processes.
"""

import signal
from collections.abc import Sequence

import msgspec

# Start-up's own refusals (backend/placement/memory_plan.py), what the supervisor says of a rank
# that the kernel killed (supervision/local_incarnation.py), PyTorch's and Python's own words.
_MEMORY_WORDS = (
    "not enough memory",
    "is too much: a rank's part",
    "memory ran out",
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "MemoryError",
)
_MAX_LINES = 6
_OWN = "unisono: "  # how a mistake on the command line is told


class ServerDeath(msgspec.Struct, frozen=True):
    """reason: one line, for a table. words: all that was said, some lines.

    is_out_of_memory: whether there was too little memory, on whichever device.
    """

    reason: str
    words: str
    is_out_of_memory: bool


def death_from(
    faults: Sequence[str], other_lines: Sequence[str], exit_status: int | None
) -> ServerDeath:
    """Judge a server by its end.

    faults: errors that it logged, oldest first; the first one is the cause, what follows from it
    comes later. other_lines: what was no event, such as a traceback. exit_status: of its first
    process; None if that still runs.
    """
    words = faults[0] if faults else _last_words(other_lines)
    is_killed = exit_status is not None and exit_status < 0
    if not words or (is_killed and not faults):
        # What it said before is not why.
        words = f"it {_end(exit_status)} without a word"
    everything = "\n".join([*faults, *other_lines])
    is_out_of_memory = any(word in everything for word in _MEMORY_WORDS)
    reason = words.splitlines()[0] if faults else _told(words)
    return ServerDeath(reason, words, is_out_of_memory)


def _last_words(lines: Sequence[str]) -> str:
    return "\n".join([line for line in lines if line.strip()][-_MAX_LINES:])


def _told(words: str) -> str:
    """Return the line that was meant for a person, else the last one, as tracebacks have it."""
    lines = words.splitlines()
    ours = [line.removeprefix(_OWN) for line in lines if line.startswith(_OWN)]
    return ours[0] if ours else lines[-1]


def _end(exit_status: int | None) -> str:
    if exit_status is None:
        return "did not serve"
    if exit_status < 0:
        return f"was killed by {signal.Signals(-exit_status).name}"
    return f"ended with status {exit_status}"
