"""One rank's step: StepPlan -> batch -> logits -> tokens.

Owns the model, the KV cache and the sampler of this rank. Knows no scheduler and no process: every
rank of a group calls `run` with the same plans in the same order.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from backend.kv_cache import KVCache
from backend.models import Model
from backend.ops import Batch
from backend.sampler import Sampler
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams


@dataclass(slots=True)
class StepResult:
    """Tokens in the order of plan.sample_rows, and what they cost in seconds."""

    token_ids: NDArray[np.int64]
    forward_s: float = field(default=0.0)
    sample_s: float = field(default=0.0)


class ModelRunner:
    """Runs steps, one forward pass each."""

    def __init__(
        self, model: Model, kv_cache: KVCache, sampler: Sampler, device: torch.device
    ) -> None:
        self._model = model
        self._kv_cache = kv_cache
        self._sampler = sampler
        self._device = device
        self.num_forward_calls = 0

    @property
    def num_full_gathers(self) -> int:
        return self._sampler.num_full_gathers

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> StepResult:
        """Run one plan on this rank. The group's ranks return the same tokens."""
        started = time.monotonic()
        for join in plan.joins:
            self._sampler.join(join)
        batch = Batch.from_plan(plan, self._device)
        hidden = self._model.forward(batch, self._kv_cache)
        self.num_forward_calls += 1
        if len(plan.sample_rows) == 0:
            return StepResult(np.empty(0, np.int64), time.monotonic() - started)
        logits = self._model.logits(hidden)
        forwarded = time.monotonic()
        tokens = self._sampler.sample(logits, plan.sample_rows, plan.sample_positions)
        return StepResult(tokens, forwarded - started, time.monotonic() - forwarded)

    def warm_up(self, num_tokens: int) -> None:
        """Run a prompt of `num_tokens` and a decode, so that no request pays for first calls.

        Every rank of the group must call it. Block 0 is overwritten, nothing remembers it.
        """
        size = self._kv_cache.block_size
        num_tokens = min(num_tokens, self._kv_cache.num_blocks * size - 1)
        table = list(range(num_tokens // size + 1))
        join = Join(0, SamplingParams(temperature=0.0))
        prompt = PlannedSequence([0] * num_tokens, 0, table, 0, 0)
        self.run(build_plan(0, [prompt], [join], size))
        decode = PlannedSequence([0], num_tokens, table, 0, 1)
        self.run(build_plan(0, [decode], [], size))
        self.num_forward_calls = 0
