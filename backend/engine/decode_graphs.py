"""Steps of decodes as CUDA graphs, one for each size, captured at the start and replayed.

A step of a few rows launches some hundred kernels that take less time than their launches. A graph
launches them at once, over the addresses of the capture: the step's integers are copied to where
its first kernel looks, and hidden states are read from where its last one left them. All graphs
share one pool of scratch, since one runs at a time; nothing else uses it. Prefills are launched one
by one: their shapes are many, and their kernels long.
"""

import logging
import time
from collections.abc import Callable

import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.decode_inputs import DecodeLayout
from backend.engine.device_queue import DeviceQueue, Recording
from backend.engine.forwarded_step import ForwardedStep
from backend.engine.newest_tokens import NewestTokens
from backend.ops.batch import Batch
from backend.placement.decode_sizes import DecodeSize, DecodeSizes
from backend.step import StepPlan

logger = logging.getLogger(__name__)


class DecodeGraphs:
    """Captures, and runs the steps that fit."""

    def __init__(
        self,
        queue: DeviceQueue,
        forward: Callable[[Batch], Tensor],
        newest: NewestTokens,
        sizes: DecodeSizes,
        *,
        num_groups: int,
        block_size: int,
        has_states: bool,
        has_encoder: bool,
        tp: TensorParallel,
    ) -> None:
        """forward: a batch of R rows -> hidden states [R, H]. sizes: what steps are run as. tp:
        ranks that do the same."""
        self._queue, self._forward, self._newest = queue, forward, newest
        self._sizes, self._has_states, self._tp = sizes, has_states, tp
        self._layouts = {
            size: DecodeLayout(size, num_groups, block_size, has_encoder) for size in sizes.all
        }
        most = max(layout.num_words for layout in self._layouts.values())
        device = queue.device
        self._words = torch.zeros(most, dtype=torch.int32, device=device)
        self._input_ids = torch.zeros(sizes.rows[-1], dtype=torch.int32, device=device)
        self._places = torch.arange(sizes.rows[-1], dtype=torch.int32, device=device)
        self._hidden: Tensor | None = None  # [largest R, H]
        self._recordings: dict[DecodeSize, Recording] = {}

    def capture(self) -> None:
        """Capture every size, with rows of padding alone: nothing is written but scratch.

        Where an op of the model cannot be captured, on any rank, none is, and a line says why.
        """
        started = time.monotonic()
        before = _reserved_bytes(self._queue.device)
        for size in self._sizes.all:
            work = self._work(size)
            work()
            obstacle = self._record(size, work)
            # All the ranks run the next size, or none does: its sums are of all.
            if not self._tp.agrees(not obstacle):
                self._recordings.clear()
                logger.warning(
                    "graphs=off: a step of this model cannot be captured, its kernels are launched "
                    "one by one: %s",
                    obstacle or "another rank cannot",
                )
                return
        logger.info(
            "graphs=%d rows=%d..%d contexts=%s seconds=%.1f bytes=%d",
            len(self._recordings),
            self._sizes.rows[0],
            self._sizes.rows[-1],
            ",".join(map(str, self._sizes.contexts)),
            time.monotonic() - started,
            _reserved_bytes(self._queue.device) - before,
        )

    def _record(self, size: DecodeSize, work: Callable[[], None]) -> str:
        """Record a size; return in one line why it cannot be."""
        try:
            self._recordings[size] = self._queue.record(work)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            return str(error).partition("\n")[0] or type(error).__name__
        return ""

    def fits(self, plan: StepPlan) -> bool:
        """Whether a plan is one of decodes, all of them sampled, that some size takes."""
        is_plain = plan.num_tokens == plan.num_decodes == plan.num_seqs == len(plan.sample_rows)
        if not is_plain or len(plan.logprob_tokens) or len(plan.encoder_lens):
            return False
        return self._size_of(plan) in self._recordings

    def run(self, plan: StepPlan) -> ForwardedStep:
        """Launch a plan that fits. What it leaves is overwritten by the next."""
        size = self._size_of(plan)
        assert size is not None and self._hidden is not None, "the plan does not fit"
        layout = self._layouts[size]
        words = self._queue.stage(layout.num_words)
        layout.fill(words, plan)
        self._queue.send(words, self._words[: layout.num_words])
        self._recordings[size].replay()
        count = plan.num_seqs
        rows, output_positions, positions = layout.samples(self._words, count)
        hidden, input_ids = self._hidden[:count], self._input_ids[:count]
        places = self._places[:count]
        return ForwardedStep(hidden, rows, output_positions, places, input_ids, positions)

    def _size_of(self, plan: StepPlan) -> DecodeSize | None:
        longest = max(int(plan.context_lens.max()), int(plan.cross_lens.max(initial=0)))
        return self._sizes.fit(plan.num_seqs, longest)

    def _work(self, size: DecodeSize) -> Callable[[], None]:
        """Return what launches a step of a size, over the places of this object."""
        layout = self._layouts[size]
        words = self._queue.stage(layout.num_words)
        layout.fill(words, None)
        self._queue.send(words, self._words[: layout.num_words])
        input_ids = self._input_ids[: size.rows]
        batch = layout.batch(self._words, input_ids, has_states=self._has_states)

        def work() -> None:
            input_ids.copy_(self._newest.resolve(layout.drawn_ids(self._words)))
            hidden = self._forward(batch)
            if self._hidden is None:  # the largest size comes first, and is run before its capture
                self._hidden = torch.empty_like(hidden)
            self._hidden[: size.rows].copy_(hidden)

        return work


def _reserved_bytes(device: torch.device) -> int:
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
