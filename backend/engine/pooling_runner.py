"""One rank's step of a model that is pooled: StepPlan -> batch -> hidden states -> vectors.

Stands where ModelRunner does for models that generate. A sequence that ends in a step, as the
plan's samples say, gets its vector. Knows no scheduler and no process.
"""

import time

import numpy as np
import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.engine.model_runner import StepResult
from backend.fault_injection import NAN, Faults
from backend.layers.pooler import Pooler
from backend.models.model import Model
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams


class PoolingRunner:
    """Runs steps, one forward pass each. The group's ranks return the same vectors."""

    num_full_gathers = 0  # of logits; nothing is sampled here
    runs_ahead = False

    def __init__(
        self,
        config: ModelConfig,
        model: Model,
        kv_cache: KVCache,
        pooler: Pooler,
        device: torch.device,
        faults: Faults,
    ) -> None:
        assert config.pooling is not None
        self._modes = config.pooling.modes
        self._takes_one_token = config.pooling.takes_one_token
        self._runs_whole = config.runs_whole
        self._has_segments = config.num_token_types > 1
        self._model = model
        self._kv_cache = kv_cache
        self._pooler = pooler
        self._device = device
        self._faults = faults
        self._joins: dict[int, Join] = {}  # by row
        self.num_forward_calls = 0

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> StepResult:
        """Run one plan on this rank. Returns vectors of plan.sample_rows, in order."""
        started = time.monotonic()
        for join in plan.joins:
            self._joins[join.row] = join
        rows = plan.sample_rows.tolist()
        params = [self._joins[row].params for row in rows]
        if self._faults:
            self._faults.strike_forward(params, [0] * len(params))
        self._clear_new_blocks(plan)
        hidden = self._model.forward(self._batch(plan, rows), self._kv_cache)
        self.num_forward_calls += 1
        result = StepResult(forward_s=time.monotonic() - started)
        if rows:
            # As many rows a sequence as the batch asked for.
            starts = [] if self._takes_one_token else plan.query_starts.tolist()
            vectors = self._pooler.pool(hidden, starts).cpu().numpy().astype("<f4")
            is_finite = np.isfinite(vectors).all(1)
            for vector, is_good, each in zip(vectors, is_finite.tolist(), params, strict=True):
                is_good = is_good and not (self._faults and self._faults.hits(NAN, each))
                result.vectors.append(vector.tobytes() if is_good else b"")
            result.sample_s = time.monotonic() - started - result.forward_s
        return result

    def warm_up(self, num_tokens: int) -> None:
        """Run a text of `num_tokens`, so that no request pays for first calls.

        Every rank of the group must call it. The first blocks are overwritten, nothing remembers
        them.
        """
        size, num_groups = self._kv_cache.block_size, self._kv_cache.num_groups
        if num_groups:
            num_tokens = min(num_tokens, self._kv_cache.num_blocks // num_groups * size)
        width = -(-num_tokens // size)
        table, *others = ([*range(g * width, (g + 1) * width)] for g in range(max(1, num_groups)))
        segments = [(num_tokens, -1, 0)] if self._kv_cache.states.num_slots else []
        text = PlannedSequence(
            [0] * num_tokens, 0, table, 0, 0, more_tables=others, state_segments=segments
        )
        self.run(build_plan(0, [text], [Join(0, SamplingParams())], size))
        self.num_forward_calls = 0

    def _batch(self, plan: StepPlan, rows: list[int]) -> Batch:
        """Return the step's batch; its output_tokens are those whose states the pooler takes."""
        batch = Batch.from_plan(plan, self._device)
        if not self._runs_whole:
            return batch
        if self._modes == ("cls",):
            batch.output_list = batch.query_starts[:-1]
            batch.output_tokens = torch.tensor(batch.output_list, device=self._device)
        elif not self._takes_one_token:
            batch.output_list = [*range(plan.num_tokens)]
            batch.output_tokens = torch.arange(plan.num_tokens, device=self._device)
        batch.token_types = self._token_types(plan, rows)
        return batch

    def _token_types(self, plan: StepPlan, rows: list[int]) -> Tensor | None:
        """Return 1 for tokens of the second text of a pair, [T]; None where there is none."""
        if not self._has_segments:
            return None
        seconds = [self._joins[row].second_segment for row in rows]
        if not any(seconds):
            return None
        lens = np.diff(plan.query_starts)
        begins = np.repeat([second or plan.num_tokens for second in seconds], lens)
        types = (plan.positions >= begins).astype(np.int64)
        return torch.from_numpy(types).to(self._device)

    def _clear_new_blocks(self, plan: StepPlan) -> None:
        """Clear the blocks that this step begins and does not fill."""
        if self._kv_cache.num_groups == 0:
            return
        blocks = plan.begun_blocks(self._kv_cache.block_size)
        if len(blocks):
            self._kv_cache.clear(torch.from_numpy(blocks.astype(np.int64)).to(self._device))
