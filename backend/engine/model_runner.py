"""One rank's step: StepPlan -> batch -> hidden states -> logits, or their argmax -> tokens.

Owns the model, the KV cache and the sampler of this rank. Knows no scheduler and no process: every
rank of a group calls `run` with the same plans in the same order.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from backend.models.encoder_decoder import EncoderDecoder
from backend.models.model import Model
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.sampling.sampler import Sampler
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.messages import TokenLogprobs
from backend.wire.sampling import SamplingParams

# Prompts are scored so many rows of logits at a time: 32 x 49,152 of fp32 are 6 MB.
SCORE_ROWS = 32


@dataclass(slots=True)
class StepResult:
    """What Scheduler.commit takes, in the order of the plan, and what it cost in seconds.

    vectors: what PoolingScheduler.commit_vectors takes instead; an empty one is a fault.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs | None] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    vectors: list[bytes] = field(default_factory=list)
    forward_s: float = 0.0
    sample_s: float = 0.0


class ModelRunner:
    """Runs steps, one forward pass each."""

    # Whether steps are launched and collected, see device_runner.py.
    runs_ahead = False

    def __init__(
        self,
        model: Model,
        kv_cache: KVCache,
        sampler: Sampler,
        device: torch.device,
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
        self._join(plan)
        self._clear_new_blocks(plan)
        batch = Batch.from_plan(plan, self._device)
        hidden = self._model.forward(batch, self._kv_cache)
        self.num_forward_calls += 1
        return self._finish(hidden, plan, started)

    def _finish(self, hidden: Tensor, plan: StepPlan, started: float) -> StepResult:
        """Score and sample. hidden: [N + P, hidden]. started: when the forward pass began."""
        num_samples = len(plan.sample_rows)
        result = StepResult()
        if len(hidden) > num_samples:
            result.prompt_logprobs = self._prompt_logprobs(hidden[num_samples:], plan)
        if num_samples == 0:
            result.forward_s = time.monotonic() - started
            return result
        hidden = hidden[:num_samples]
        if self._sampler.is_greedy(plan):
            values, ids = self._model.argmax(hidden)
            forwarded = time.monotonic()
            sampled = self._sampler.choose(values, ids)
        else:
            logits = self._model.logits(hidden)
            forwarded = time.monotonic()
            sampled = self._sampler.sample(logits, plan, lambda: self._model.logits(hidden))
        result.token_ids, result.logprobs = sampled.token_ids.tolist(), sampled.logprobs
        result.forward_s = forwarded - started
        result.sample_s = time.monotonic() - forwarded
        return result

    def _join(self, plan: StepPlan) -> None:
        """Begin the rows that join in this step."""
        for join in plan.joins:
            self._sampler.join(join)

    def _clear_new_blocks(self, plan: StepPlan) -> None:
        """Clear the blocks that this step begins and does not fill."""
        blocks = plan.begun_blocks(self._kv_cache.block_size)
        if len(blocks):
            self._kv_cache.clear(torch.from_numpy(blocks.astype(np.int64)).to(self._device))

    def clear_blocks(self, blocks: Tensor) -> None:
        """Write these blocks of the KV cache, [b] int64, on its device; for measurements."""
        self._kv_cache.clear(blocks)

    def _prompt_logprobs(self, hidden: Tensor, plan: StepPlan) -> list[TokenLogprobs]:
        """Score prompt tokens a few rows at a time: [P, V] never exists."""
        logprobs: list[TokenLogprobs] = []
        for start in range(0, len(hidden), SCORE_ROWS):
            part = slice(start, start + SCORE_ROWS)
            logprobs += self._sampler.token_logprobs(
                self._model.logits(hidden[part]),
                plan.logprob_targets[part].tolist(),
                plan.logprob_counts[part].tolist(),
            )
        return logprobs

    def warm_up(self, num_tokens: int) -> None:
        """Run a prompt of `num_tokens` and a decode, so that no request pays for first calls.

        Every rank of the group must call it. The first blocks are overwritten, nothing remembers
        them. An encoder, if the model has one, reads as many tokens.
        """
        has_encoder = isinstance(self._model, EncoderDecoder)
        size, num_groups = self._kv_cache.block_size, self._kv_cache.num_groups
        num_tables = max(1, num_groups) + has_encoder
        if num_groups:
            num_tokens = min(num_tokens, self._kv_cache.num_blocks // num_tables * size - 1)
        width = num_tokens // size + 1
        tables = [[*range(n * width, (n + 1) * width)] for n in range(num_tables)]
        cross = (tables.pop(), num_tokens) if has_encoder else ([], 0)
        table, *others = tables
        token_ids = [0] * num_tokens
        inputs = token_ids if has_encoder else []
        has_states = self._kv_cache.states.num_slots > 0
        begins, goes_on = ([(num_tokens, -1, 0)], [(1, 0, 0)]) if has_states else ([], [])
        prompt = PlannedSequence(
            token_ids, 0, table, 0, 0, 0, [], 0, others, *cross, inputs, begins
        )
        self.run(build_plan(0, [prompt], [Join(0, SamplingParams())], size))
        decode = PlannedSequence(
            [0], num_tokens, table, 0, 1, 0, [], 0, others, *cross, [], goes_on
        )
        self.run(build_plan(0, [decode], [Join(0, SamplingParams(temperature=0.0))], size))
        self.num_forward_calls = 0
