"""Runs steps on a device that the host does not wait for.

A step is launched: its plan is copied, a graph replayed or its kernels launched one by one, its
tokens drawn, and where they are needed next is where they stay. It is collected when the host
wants to know them. Between the two the next step can be launched.
"""

import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.decode_graphs import DecodeGraphs
from backend.engine.device_draws import DeviceDraws
from backend.engine.device_queue import DeviceQueue, Download
from backend.engine.forwarded_step import ForwardedStep
from backend.engine.model_runner import ModelRunner, StepResult
from backend.engine.newest_tokens import NewestTokens
from backend.engine.token_draws import Drawing, TokenDraws
from backend.models.encoder_decoder import EncoderDecoder
from backend.models.model import Model
from backend.ops.batch import Batch
from backend.ops.kv_cache import KVCache
from backend.ops.upload import upload
from backend.placement.decode_sizes import DecodeSizes
from backend.sampling.sampler import Sampler
from backend.step import StepPlan
from backend.wire.messages import TokenLogprobs


@dataclass(frozen=True, slots=True)
class LaunchedStep:
    """A step that is on its way.

    drawing: its tokens, None where nothing is sampled. downloads: what is to be read of it, in
    order: scores of prompts, tokens, scores of tokens, as far as there are any. prompt_counts: of
    scores of prompts that are read, how many of the best are told of each.
    """

    started: float
    drawing: Drawing | None = None
    downloads: list[Download] = field(default_factory=list)
    prompt_counts: tuple[int, ...] = ()
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)


class DeviceRunner(ModelRunner):
    """As the other, in two halves."""

    runs_ahead = True

    def __init__(
        self,
        model: Model,
        kv_cache: KVCache,
        sampler: Sampler,
        queue: DeviceQueue,
        *,
        max_num_seqs: int,
        sizes: DecodeSizes | None,
        clears_blocks: bool = True,
        draws: TokenDraws | None = None,
        tp: TensorParallel | None = None,
    ) -> None:
        """sizes: as which steps of decodes are captured; None: none is. clears_blocks: ops read
        places of a block before they are written. draws: who draws, if not the sampler on the
        host. tp: the group, if there is one."""
        super().__init__(model, kv_cache, sampler, queue.device)
        self._queue = queue
        self._clears_blocks = clears_blocks
        self._draws = draws or TokenDraws(model, sampler)
        self._tp = tp or TensorParallel()
        self._newest = NewestTokens(max_num_seqs, queue.device)
        self._last_collected = 0.0
        self._graphs = None
        if sizes is not None:
            self._graphs = DecodeGraphs(
                queue,
                lambda batch: model.forward(batch, kv_cache),
                self._newest,
                sizes,
                num_groups=kv_cache.num_groups,
                block_size=kv_cache.block_size,
                has_states=kv_cache.states.num_slots > 0,
                has_encoder=isinstance(model, EncoderDecoder),
                tp=self._tp,
            )

    def waits(self, plan: StepPlan) -> bool:
        """Whether launching a plan waits for the device, so that what was launched before it had
        better be collected first."""
        scores = len(plan.logprob_tokens) > 0 and not isinstance(self._draws, DeviceDraws)
        return self._draws.waits(plan) or scores

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> LaunchedStep:
        """Launch a step. Its input ids may name rows of steps launched before, see step.py."""
        started = time.monotonic()
        self._join(plan)
        if self._clears_blocks:
            self._clear_new_blocks(plan)
        step = self._forward(plan)
        self.num_forward_calls += 1
        launched = LaunchedStep(started)
        if len(plan.logprob_tokens):
            launched = self._score_prompts(step.hidden[len(plan.sample_rows) :], plan, launched)
        if len(plan.sample_rows) == 0:
            return launched
        drawing = self._draws.draw(plan, step)
        self._newest.note(step.rows, drawing.tokens)
        launched.downloads.append(self._queue.download(drawing.tokens))
        if drawing.scores is not None:
            launched.downloads.append(self._queue.download(drawing.scores))
        return replace(launched, drawing=drawing)

    def _score_prompts(
        self, hidden: Tensor, plan: StepPlan, launched: LaunchedStep
    ) -> LaunchedStep:
        """Score prompts' tokens: on the device, or on the host, which waits."""
        if not isinstance(self._draws, DeviceDraws):
            return replace(launched, prompt_logprobs=self._prompt_logprobs(hidden, plan))
        words = self._draws.score_prompts(hidden, plan)
        launched.downloads.append(self._queue.download(words))
        return replace(launched, prompt_counts=tuple(plan.logprob_counts.tolist()))

    def collect(self, launched: LaunchedStep) -> StepResult:
        """Wait for a step, and return what it gave. Steps are collected in order.

        Raises RuntimeError if the group broke up: what the device has then is nothing.
        """
        result = StepResult(prompt_logprobs=launched.prompt_logprobs)
        words = [download.wait() for download in launched.downloads]
        if launched.prompt_counts:
            assert isinstance(self._draws, DeviceDraws)
            counts = launched.prompt_counts
            result.prompt_logprobs = self._draws.read_prompt_scores(words.pop(0), counts)
        if launched.drawing is not None:
            result.token_ids = words[0].tolist()
            result.logprobs = launched.drawing.logprobs(words[1] if len(words) > 1 else None)
        self._tp.check()
        now = time.monotonic()
        # What a step takes begins when the one before it is over.
        result.forward_s = now - max(launched.started, self._last_collected)
        self._last_collected = now
        return result

    def run(self, plan: StepPlan) -> StepResult:
        """Run one plan, and wait for it."""
        return self.collect(self.launch(plan))

    def warm_up(self, num_tokens: int) -> None:
        """Run a prompt and a decode, see ModelRunner, then capture the steps of decodes."""
        super().warm_up(num_tokens)
        if self._graphs is not None:
            with torch.inference_mode():
                self._graphs.capture()

    def _forward(self, plan: StepPlan) -> ForwardedStep:
        if self._graphs is not None and self._graphs.fits(plan):
            return self._graphs.run(plan)
        batch = Batch.from_plan(plan, self._device)
        batch.input_ids = self._newest.resolve(batch.input_ids)
        hidden = self._model.forward(batch, self._kv_cache)
        rows, output_positions = (
            upload(part, self._device) for part in (plan.sample_rows, plan.sample_positions)
        )
        last = batch.output_tokens[: len(plan.sample_rows)]
        return ForwardedStep(hidden, rows, output_positions, last, batch.input_ids, batch.positions)
