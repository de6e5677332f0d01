"""A step between its launch and its tokens, and what comes of it, whichever way it is flown.

flight.py has one on a device, staged_flight.py one in each stage.
"""

from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.scheduler.scheduler import Scheduler
from backend.scheduler.sequence import SeqKey, Sequence
from backend.step import StepPlan
from backend.structured_output.matchers import Matchers
from backend.wire.messages import SeqOutput, TokenLogprobs

if TYPE_CHECKING:
    from backend.engine.model_runner import StepResult


@dataclass(frozen=True, slots=True)
class Landed:
    """A step whose tokens have been recorded. seconds: what its sequences waited for it."""

    plan: StepPlan
    outputs: list[tuple[int, SeqOutput]]
    schedule_s: float
    result: "StepResult"
    seconds: float


@dataclass(frozen=True, slots=True)
class StepUnderWay:
    """newcomers: what is new or changed in it; schedule_s: how long its planning took."""

    plan: StepPlan
    sampled: ListLike[Sequence]
    newcomers: list[SeqKey]
    schedule_s: float

    def resolve(
        self,
        scheduler: Scheduler,
        matchers: Matchers,
        token_ids: list[int],
        logprobs: list[TokenLogprobs | None],
        prompt_logprobs: list[TokenLogprobs],
    ) -> list[tuple[int, SeqOutput]]:
        """Record what was drawn; return what the workers are told."""
        matchers.accept(self.sampled, token_ids)
        outputs = scheduler.resolve(token_ids, logprobs, prompt_logprobs)
        matchers.keep(lambda key: key in scheduler)
        return outputs
