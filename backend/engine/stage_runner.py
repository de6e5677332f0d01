"""One rank's step where layers are shared out over stages: what comes in, what goes on.

The first stage embeds the tokens, each passes the residual stream on to the next, and the last
samples. Every rank is given every plan, in order; a stage waits for the one before it. Those after
the first run on while the first begins the next step.
"""

import time

import torch

from backend.distributed.pipeline import Pipeline
from backend.engine.model_runner import ModelRunner, StepResult
from backend.fault_injection import Faults
from backend.models.decoder import Decoder
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.sampling.sampler import Sampler
from backend.step import StepPlan


class StageRunner(ModelRunner):
    """As the other, for the layers of one stage."""

    def __init__(
        self,
        model: Decoder,
        kv_cache: KVCache,
        sampler: Sampler,
        device: torch.device,
        pipeline: Pipeline,
        stream: tuple[int, torch.dtype],
        faults: Faults,
    ) -> None:
        """stream: width of the residual stream, and what it is in. faults: for tests."""
        super().__init__(model, kv_cache, sampler, device)
        self._decoder = model
        self._pipeline = pipeline
        self._width, self._dtype = stream
        self._faults = faults
        # Of the ranks that draw; the first stage's lead is told how many there were.
        self._told_full_gathers = 0

    @property
    def num_full_gathers(self) -> int:
        return self._told_full_gathers or self._sampler.num_full_gathers

    @num_full_gathers.setter
    def num_full_gathers(self, count: int) -> None:
        self._told_full_gathers = count

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> StepResult:
        """Run one plan on this rank. Only the last stage's ranks return tokens, all the same."""
        started = time.monotonic()
        if self._pipeline.is_last or self._faults:
            self._join(plan)
        if self._faults:
            params = self._sampler.params_of(plan.sample_rows)
            self._faults.strike_forward(params, plan.sample_positions.tolist())
        self._clear_new_blocks(plan)
        batch = Batch.from_plan(plan, self._device)
        if self._pipeline.is_first:
            x = self._decoder.forward(batch, self._kv_cache)
        else:
            x = self._pipeline.receive((plan.num_tokens, self._width), self._dtype, self._device)
            started = time.monotonic()  # what it waited for the others is no work
            x = self._decoder.forward_from(x, batch, self._kv_cache)
        self.num_forward_calls += 1
        if self._pipeline.is_last:
            return self._finish(x, plan, started)
        forward_s = time.monotonic() - started
        self._pipeline.send(x)
        return StepResult(forward_s=forward_s)
