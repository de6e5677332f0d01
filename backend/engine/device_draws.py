"""From hidden states to tokens on the device alone: TokenDraws by the sampler of a GPU."""

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.forwarded_step import ForwardedStep
from backend.engine.model_runner import SCORE_ROWS
from backend.engine.token_draws import Drawing, TokenDraws
from backend.models.model import Model
from backend.ops.upload import upload
from backend.sampling.draw import Ids
from backend.step import Ints, StepPlan
from backend.wire.messages import TokenLogprobs

if TYPE_CHECKING:
    from backend.sampling.device_sampler import DeviceSampler, SampledRows


class DeviceDraws(TokenDraws):
    """Draws for one rank; nothing waits for the device."""

    def __init__(self, model: Model, sampler: "DeviceSampler") -> None:
        super().__init__(model, sampler)
        self.sampler = sampler

    def waits(self, plan: StepPlan) -> bool:
        return False

    def score_prompts(self, hidden: Tensor, plan: StepPlan) -> Tensor:
        """Score a plan's prompt tokens a few rows at a time, as its ModelRunner does, and return
        the words of their scores, on the device. hidden: [P, hidden]."""
        parts = [slice(at, at + SCORE_ROWS) for at in range(0, len(hidden), SCORE_ROWS)]
        logits = [partial(self._model.logits, hidden[part]) for part in parts]
        return self.sampler.score_tokens(logits, [plan.logprob_targets[part] for part in parts])

    def read_prompt_scores(self, words: Ints, counts: tuple[int, ...]) -> list[TokenLogprobs]:
        """Return the scores of prompts' tokens. words: of score_prompts(), on the host; counts:
        how many of the best are told beside each."""
        from backend.sampling.device_sampler import read_scores

        return [each for each in read_scores(words, counts) if each is not None]

    def draw(self, plan: StepPlan, step: ForwardedStep) -> Drawing:
        """Draw one token for each of a plan's samples."""
        from backend.ops.triton.rules import StepTokens
        from backend.sampling.device_sampler import SampledRows

        hidden, asking = step.hidden[: len(plan.sample_rows)], self.sampler.asking(plan)
        if not len(asking):
            return self._best(hidden)
        tokens = StepTokens(step.last, step.input_ids, step.positions)
        sampled = SampledRows(step.rows, step.output_positions, tokens)
        if len(asking) == len(hidden) or self.sampler.is_alone:
            asking = np.arange(len(hidden))
            needs = self.sampler.needs(plan.sample_rows)
            sampled = sampled.with_masks(plan, asking)
            return self.sampler.draw(self._model.logits(hidden), sampled, needs)
        return self._draw_some(hidden, sampled, plan, asking)

    def _draw_some(
        self, hidden: Tensor, sampled: "SampledRows", plan: StepPlan, asking: Ids
    ) -> Drawing:
        """Draw where ranks share the vocabulary: of rows that need only their best token no logits
        are gathered. asking: [M], the others."""
        others = np.setdiff1d(np.arange(len(hidden)), asking)
        at, rest = (upload(each.astype(np.int32), hidden.device) for each in (asking, others))
        needs = self.sampler.needs(plan.sample_rows[asking])
        logits = self._model.logits(hidden.index_select(0, at))
        drawn = self.sampler.draw(logits, sampled.some(at).with_masks(plan, asking), needs)
        best = self._best(hidden.index_select(0, rest)).tokens
        return drawn.among(len(hidden), asking, at, rest, best)


def create_draws(
    model: Model,
    max_num_seqs: int,
    vocab: slice,
    eos_token_ids: Sequence[int],
    tp: TensorParallel,
    device: torch.device,
) -> DeviceDraws | None:
    """Return what draws on a GPU; None where PyTorch came without Triton.

    vocab: this rank's part.
    """
    if find_spec("triton") is None:
        return None
    from backend.sampling.device_sampler import DeviceSampler

    return DeviceDraws(model, DeviceSampler(max_num_seqs, vocab, tp, eos_token_ids, device=device))
