"""A sampler that fails where a test asks for it; see backend/fault_injection.py."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.fault_injection import DRAW, NAN, RULES, Faults
from backend.sampling.draw import Ids
from backend.sampling.logits_processors import RowState
from backend.sampling.sampler import Sampler
from backend.step import FAULTY, StepPlan

logger = logging.getLogger(__name__)


class FaultySampler(Sampler):
    """Strikes rows in their logits processors and in their draw. It is the same on every rank."""

    def __init__(
        self,
        max_num_seqs: int,
        vocab: slice,
        tp: TensorParallel,
        eos_token_ids: Sequence[int] = (),
        *,
        faults: Faults,
    ) -> None:
        """See Sampler."""
        super().__init__(max_num_seqs, vocab, tp, eos_token_ids)
        self._faults = faults

    def is_greedy(self, plan: StepPlan) -> bool:
        """Say no: where nothing but the largest logit is looked at, no fault can strike."""
        return False

    def _process(
        self, logits: Tensor, samples: Sequence[int], states: Sequence[RowState], plan: StepPlan
    ) -> None:
        positions = plan.sample_positions[list(samples)].tolist()
        for n, (sample, position) in enumerate(zip(samples, positions, strict=True)):
            params = states[sample].params
            self._faults.strike(RULES, params, position)
            if self._faults.hits(NAN, params, position):
                logits[n] = torch.nan
        super()._process(logits, samples, states, plan)

    def _draw_from_candidates(self, logits: Tensor, part: Ids, rows: Ids, positions: Ids) -> Ids:
        tokens = super()._draw_from_candidates(logits, part, rows, positions)
        drawn: NDArray[np.intp] = np.flatnonzero(tokens >= 0)
        for i in drawn.tolist():
            try:
                self._faults.strike(DRAW, self.params_of(rows[i : i + 1])[0], int(positions[i]))
            except Exception:  # on every rank: all have gathered the same
                logger.exception("the draw of a row failed")
                tokens[i] = FAULTY
        return tokens
