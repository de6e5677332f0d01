"""What must be true of every request of a chaos run, whatever was done meanwhile.

Each ends once: complete and equal to the reference; or with an error event or a refusal that says
why; or cut off, if and only if its worker was killed while it ran; and in time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.attacks import Log
from tests.chaos.catalog import Answer
from tests.chaos.client import End, Outcome

# A request's own timeout is kept this well by processes that are stopped for a second at a time.
LATE_SECONDS = 8.0
# Between a worker's death and what its clients see of it.
CUT_SECONDS = 3.0
# engine_error: what is taken for poison, two groups having died at its first step.
REFUSALS = {"not_ready", "queue_full", "deadline_exceeded", "engine_error"}


@dataclass
class ValidationResult:
    """What was wrong, and how the requests ended."""

    complaints: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    num_tokens: int = 0


def judge(
    outcomes: Sequence[Outcome], references: Sequence[Answer], log: Log, lost_s: float
) -> ValidationResult:
    """Look at every outcome. lost_s: for how long the machine stood still meanwhile."""
    verdict = ValidationResult()
    for outcome in outcomes:
        name = outcome.end.value
        if outcome.error:
            name += f" {outcome.error.get('code')}"
        verdict.ends[name] += 1
        verdict.num_tokens += sum(map(len, outcome.answer.ids))
        complaint = _complaint(outcome, references[outcome.number], log, lost_s)
        if complaint:
            verdict.complaints.append(f"request {outcome.number}: {complaint}")
    return verdict


def _complaint(outcome: Outcome, reference: Answer, log: Log, lost_s: float) -> str:
    answer = outcome.answer
    seconds = outcome.ended_s - outcome.started_s
    if outcome.end is End.BROKEN:
        return f"got what is no answer: {outcome.error}"
    if outcome.end is End.HUNG:
        return f"still no end after {seconds:.1f} s"
    if outcome.end is End.COMPLETE and answer != reference:
        return f"differs from the reference: {_difference(answer, reference)}"
    if outcome.end is not End.REFUSED and not reference.begins_with(answer):
        return f"is no beginning of the reference: {_difference(answer, reference)}"
    if seconds > outcome.manner.timeout_s + LATE_SECONDS + lost_s:
        return f"ended {seconds - outcome.manner.timeout_s:.1f} s late"
    if outcome.end is End.REFUSED and outcome.error.get("code") not in REFUSALS:
        return f"refused with {outcome.status} {outcome.error}"
    if outcome.end is End.CUT and not _was_worker_killed(outcome, log, lost_s):
        return "was cut off, and no worker was killed"
    return ""


def _was_worker_killed(outcome: Outcome, log: Log, lost_s: float) -> bool:
    return any(
        outcome.started_s - CUT_SECONDS - lost_s <= moment <= outcome.ended_s
        for moment in log.times("SIGKILL", "worker")
    )


def _difference(answer: Answer, reference: Answer) -> str:
    for index, (got, due) in enumerate(zip(answer.ids, reference.ids, strict=True)):
        if got != due:
            place = next(
                (n for n, (a, b) in enumerate(zip(got, due, strict=False)) if a != b),
                min(len(got), len(due)),
            )
            return (
                f"choice {index}, token {place} of {len(due)} ({len(got)} came): "
                f"{got[place : place + 3]} for {due[place : place + 3]}"
            )
    return f"{answer.texts} {answer.reasons} for {reference.texts} {reference.reasons}"
