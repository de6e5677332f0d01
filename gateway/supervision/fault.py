"""The first fault of a group: which rank, how, where it was, and what it last said."""

import time

import msgspec

from backend.wire.local.heartbeat import Batch, Phase

REPORTED_LINES = 20
LOGGED_LINES = 5
# How the cause of a fault begins where nothing has ended.
HANGS = "made no progress for"


class Fault(msgspec.Struct, frozen=True):
    """Why an incarnation of a group ended, as the log and `unisono ctl list` tell it.

    cause: how it ended; message: what the rank itself had to say. at: seconds since 1970.
    suspects: (worker, seq_id) of what was new or changed in the last step; num_seqs is 0 when no
    step was under way. stacks: where each rank was, if the group hung. is_foreign: it came from
    outside, from somebody who killed or stopped a process.
    """

    rank: str
    pid: int
    cause: str
    message: str
    epoch: int
    phase: str
    step: int
    num_seqs: int = 0
    num_tokens: int = 0
    suspects: list[tuple[int, int]] = []
    stderr: list[str] = []
    stacks: dict[str, list[str]] = {}
    is_foreign: bool = False
    at: float = msgspec.field(default_factory=time.time)

    @property
    def summary(self) -> str:
        """Which rank and how; for an operator whose server has not even started, what it said."""
        return f"{self.rank} {self.cause}" + (f": {self.message}" if self.message else "")

    @property
    def hangs(self) -> bool:
        """Whether it is no end, but progress that has ended."""
        return self.cause.startswith(HANGS)

    @property
    def blamed(self) -> list[tuple[int, int]]:
        """The sequences that may have been the cause."""
        return [] if self.is_foreign else self.suspects

    def __str__(self) -> str:
        """One line for the log."""
        text = f"{self.summary}; in {self.phase}, step {self.step}"
        if self.num_seqs:
            suspects = ", ".join(f"{worker}:{seq_id}" for worker, seq_id in self.suspects)
            text += f" of {self.num_seqs} sequences and {self.num_tokens} tokens"
            text += f"; new or changed: {suspects or 'none'}"
        if self.stderr:
            text += "; last said: " + " | ".join(self.stderr[-LOGGED_LINES:])
        return text


def with_batch(fault: Fault, batch: Batch | None) -> Fault:
    """Add what was being computed, if anything was."""
    if batch is None:
        return fault
    return msgspec.structs.replace(
        fault, num_seqs=batch.num_seqs, num_tokens=batch.num_tokens, suspects=batch.suspects
    )


def phase_name(phase: Phase) -> str:
    """A phase in words."""
    return phase.name.lower().replace("_", " ")
