"""From hidden states to tokens on the device, whoever draws them.

The largest logit is taken on the device, without the host. What else rows ask for is the sampler's,
which waits for the logits; its tokens go back to the device for the next step.
"""

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from backend.engine.forwarded_step import ForwardedStep
from backend.models.model import Model
from backend.ops.upload import upload
from backend.sampling.sampler import Sampler
from backend.step import Ints, StepPlan
from backend.wire.messages import TokenLogprobs


class Drawing(Protocol):
    """The tokens of a step, [N] int32 on the device, and what their scores are made of there,
    int32, if any were asked for."""

    tokens: Tensor
    scores: Tensor | None

    def logprobs(self, scores: Ints | None) -> list[TokenLogprobs | None]:
        """Return one for each row, None where none was asked for; empty if nobody asked.

        scores: on the host.
        """
        ...


@dataclass(slots=True)
class PlainDrawing:
    """Tokens whose log-probabilities are on the host already, if they were asked for."""

    tokens: Tensor
    found: list[TokenLogprobs | None] = field(default_factory=list)
    scores: Tensor | None = None

    def logprobs(self, scores: Ints | None) -> list[TokenLogprobs | None]:
        return self.found


class TokenDraws:
    """Draws for one rank."""

    def __init__(self, model: Model, sampler: Sampler) -> None:
        self._model, self._sampler = model, sampler

    def waits(self, plan: StepPlan) -> bool:
        """Whether drawing for a plan waits for the device."""
        return not self._sampler.is_greedy(plan)

    def draw(self, plan: StepPlan, step: ForwardedStep) -> Drawing:
        """Draw one token for each of a plan's samples."""
        hidden = step.hidden[: len(plan.sample_rows)]
        if self.waits(plan):
            return self._draw_on_host(plan, step, hidden)
        return self._best(hidden)

    def _best(self, hidden: Tensor) -> Drawing:
        values, ids = self._model.argmax(hidden)
        return PlainDrawing(self._sampler.best(values, ids))

    def _draw_on_host(self, plan: StepPlan, step: ForwardedStep, hidden: Tensor) -> Drawing:
        """Have the sampler draw, which keeps rows' histories by what the plan's input ids are."""
        if len(plan.input_ids) and plan.input_ids.min() < 0:
            plan = plan.with_input_ids(step.input_ids.cpu().numpy())
        logits = self._model.logits(hidden)
        sampled = self._sampler.sample(logits, plan, lambda: self._model.logits(hidden))
        return PlainDrawing(upload(sampled.token_ids.tolist(), hidden.device), sampled.logprobs)
