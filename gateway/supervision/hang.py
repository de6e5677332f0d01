"""Tells from the beats of a group whether one of its ranks hangs. Knows no process and no clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.wire.local.heartbeat import Heartbeat, Phase

# A rank that starts and does nothing: it shows no progress, computes less than half a second, reads
# less than half a MiB. Slow disks are faster, and so is a rank that waits in a loop for others.
SILENT_SECONDS = 60.0
LEAST_EFFORT = 0.5
# One that does work must show progress in the end: a tensor from a cold network disk,
LOAD_SECONDS = 300.0
# a forward pass of 64 tokens on a slow machine, or whatever a GPU compiles.
WARM_UP_SECONDS = 900.0
# A step this many times as long as usual is no step any more.
STEP_FACTOR = 20
# Looks come many times a second. One this share of the limit late says that the watch itself was
# stopped; a busy machine delays it less, and what is less makes no living rank look hung.
LATE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Stall:
    """A rank without progress for longer than its phase allows."""

    rank: int
    phase: Phase
    step: int
    seconds: float


class HangWatch:
    """Judges a group again and again. hang_s: what an idle rank or a short step may take."""

    def __init__(self, hang_s: float) -> None:
        self._hang_s = hang_s
        self._looked_ns = 0
        self._resumed_ns = 0
        self._worked_ns = 0  # when those that start were last seen to have done something
        self._efforts: list[float] = []  # of then

    def look(
        self, beats: Sequence[Heartbeat], now_ns: int, efforts: Sequence[float] = ()
    ) -> Stall | None:
        """Return the rank that is longest over its time, if any is.

        efforts: what each has done so far, seconds of CPU time or MiB read, while they start; empty
        where that is not known.
        A watch that was itself stopped, with the machine or alone, begins anew: what it missed is
        nobody's fault. A rank that loads waits for the others now and then, so loading is judged
        by whoever of them moved last.
        """
        if now_ns - self._looked_ns > LATE_SHARE * self._hang_s * 1e9:
            self._resumed_ns = now_ns
        self._looked_ns = now_ns
        self._note_efforts(efforts, now_ns)
        loading = [beat.progress_ns for beat in beats if _is_loading(beat)]
        stalls = []
        for rank, beat in enumerate(beats):
            moved_ns = max(loading) if _is_loading(beat) else beat.progress_ns
            seconds = (now_ns - max(moved_ns, self._resumed_ns)) / 1e9
            is_silent = efforts and _is_loading(beat) and self._is_silent(seconds, now_ns)
            if is_silent or seconds > self._budget_s(beat):
                stalls.append(Stall(rank, beat.phase, beat.step, seconds))
        # Whoever waits for a stuck rank has moved after it did.
        return min(stalls, key=lambda stall: beats[stall.rank].progress_ns, default=None)

    def _note_efforts(self, efforts: Sequence[float], now_ns: int) -> None:
        """Remember when any of the group had last done something worth mentioning."""
        if len(self._efforts) != len(efforts):
            self._efforts = list(efforts)
            self._worked_ns = now_ns
        for rank, effort in enumerate(efforts):
            if effort - self._efforts[rank] >= LEAST_EFFORT:
                self._efforts[rank] = effort
                self._worked_ns = now_ns

    def _is_silent(self, seconds: float, now_ns: int) -> bool:
        idle_s = min(seconds, (now_ns - self._worked_ns) / 1e9)
        return idle_s > max(SILENT_SECONDS, self._hang_s)

    def _budget_s(self, beat: Heartbeat) -> float:
        match beat.phase:
            case Phase.LOAD:
                return max(LOAD_SECONDS, self._hang_s)
            case Phase.WARM_UP:
                return max(WARM_UP_SECONDS, self._hang_s)
            case Phase.STEP:
                return max(self._hang_s, STEP_FACTOR * beat.typical_step_ns / 1e9)
        return self._hang_s


def _is_loading(beat: Heartbeat) -> bool:
    return beat.phase in (Phase.LOAD, Phase.WARM_UP)
