"""Runs sequences whose tokens are given through a model, and shows the logits of every judged one.

Plans are made by hand and run by a ModelRunner, as a rank does, but with a sampler that keeps the
logits instead of drawing. Knows nothing of what is compared with what.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from backend.config.cache_groups import cache_groups
from backend.config.model_config import ModelConfig
from backend.distributed.tensor_parallel import TensorParallel
from backend.engine.model_runner import ModelRunner
from backend.models.model import Model
from backend.ops.kv_cache import KVCache
from backend.placement.sharding import split_model
from backend.sampling.sampler import Sampled, Sampler
from backend.step import PlannedSequence, StepPlan, build_plan
from backend.wire.messages import TokenLogprobs
from tests.bench.cases import Case

# Tokens of a sequence in one step of a prefill: the longer ones also attend over a cached part.
CHUNK = 128
# Sequences in one step of a prefill.
PREFILL_ROWS = 4
BLOCK_SIZE = 32


@dataclass(frozen=True, slots=True)
class Logits:
    """What a model says of n judged tokens of a case, from its `start`-th on.

    rows: [n, vocabulary].
    """

    case: int
    start: int
    rows: Tensor


class Recorder(Sampler):
    """A sampler that keeps the logits of a step and draws nothing."""

    def __init__(self, max_num_seqs: int, vocab: slice) -> None:
        super().__init__(max_num_seqs, vocab, TensorParallel())
        self._parts: list[Tensor] = []

    def sample(self, logits: Tensor, plan: StepPlan, again: Callable[[], Tensor]) -> Sampled:
        self._parts.append(logits)
        return Sampled(np.zeros(len(logits), np.int64))

    def token_logprobs(
        self, logits: Tensor, token_ids: Sequence[int], counts: Sequence[int]
    ) -> list[TokenLogprobs]:
        self._parts.append(logits)
        return []

    def take(self) -> Tensor:
        """Return the logits of the last step, [rows, vocabulary], and forget them."""
        parts, self._parts = self._parts, []
        return torch.cat(parts) if parts else torch.empty(0, 0)


class Forcer:
    """One model on the CPU, with a cache of its own for `max_rows` sequences."""

    def __init__(
        self, model: Model, config: ModelConfig, dtype: torch.dtype, max_rows: int, max_len: int
    ) -> None:
        [shard] = split_model(config, 1)
        device = torch.device("cpu")
        self._width = max_len // BLOCK_SIZE + 1
        cache = KVCache(
            config,
            shard,
            groups=cache_groups([0] * config.num_layers, max_len),
            num_blocks=max_rows * self._width,
            block_size=BLOCK_SIZE,
            dtype=dtype,
            device=device,
        )
        self._recorder = Recorder(max_rows, shard.vocab)
        self._runner = ModelRunner(model, cache, self._recorder, device)

    def prefill(self, cases: Sequence[Case]) -> Iterator[Logits]:
        """Run several cases a step, in chunks."""
        for first in range(0, len(cases), PREFILL_ROWS):
            batch = cases[first : first + PREFILL_ROWS]
            for start in range(0, max(len(case.ids) for case in batch) - 1, CHUNK):
                chunks = [self._chunk(row, case, start) for row, case in enumerate(batch)]
                chunks = [chunk for chunk in chunks if chunk.token_ids]
                chunks.sort(key=lambda chunk: len(chunk.token_ids) != 1)  # decodes come first
                parts = torch.split(
                    self._run(chunks), [len(chunk.logprob_targets) for chunk in chunks]
                )
                for chunk, part in zip(chunks, parts, strict=True):
                    case = batch[chunk.row]
                    judged = max(0, chunk.start + 1 - case.start)
                    yield Logits(first + chunk.row, judged, part)

    def decode(self, cases: Sequence[Case], rows: int) -> Iterator[Logits]:
        """Run one token of `rows` cases a step.

        Cases must have equally many judged tokens. The last batch is filled up with the first.
        """
        for first in range(0, len(cases), rows):
            indices = list(islice(cycle(range(len(cases))), first, first + rows))
            batch = [cases[index] for index in indices]
            self._cache_prompts([case.ids[: case.start] for case in batch])
            for offset in range(len(batch[0])):
                last = [case.ids[: case.start + offset] for case in batch]
                logits = self._next(last)
                for row, index in enumerate(indices[: len(cases) - first]):
                    yield Logits(index, offset, logits[row : row + 1])

    def greedy(self, prompts: Sequence[list[int]], count: int, rows: int) -> list[Case]:
        """Continue each prompt by its `count` best tokens, `rows` prompts a step."""
        cases = []
        for first in range(0, len(prompts), rows):
            batch = [list(prompt) for prompt in prompts[first : first + rows]]
            self._cache_prompts(batch)
            for _ in range(count):
                for ids, token in zip(batch, best_tokens(self._next(batch)), strict=True):
                    ids.append(token)
            cases += [Case(ids, len(ids) - count) for ids in batch]
        return cases

    def _cache_prompts(self, prompts: Sequence[list[int]]) -> None:
        """Run all but the last token of each."""
        for row, ids in enumerate(prompts):
            if len(ids) > 1:
                self._run([PlannedSequence(ids[:-1], 0, self._table(row), row, None)])

    def _next(self, sequences: Sequence[list[int]]) -> Tensor:
        """Run the last token of each; return the logits of what follows, [rows, vocabulary]."""
        return self._run(
            [
                PlannedSequence(ids[-1:], len(ids) - 1, self._table(row), row, 0)
                for row, ids in enumerate(sequences)
            ]
        )

    def _chunk(self, row: int, case: Case, start: int) -> PlannedSequence:
        """Plan the tokens of a case from `start` on, with those of their successors to judge."""
        end = min(start + CHUNK, len(case.ids) - 1)
        judged = max(start, case.start - 1)
        targets = case.ids[judged + 1 : end + 1]
        return PlannedSequence(
            case.ids[start:end], start, self._table(row), row, None, judged - start, targets
        )

    def _table(self, row: int) -> list[int]:
        return list(range(row * self._width, (row + 1) * self._width))

    def _run(self, sequences: Sequence[PlannedSequence]) -> Tensor:
        self._runner.run(build_plan(0, sequences, [], BLOCK_SIZE))
        return self._recorder.take()


def best_tokens(logits: Tensor) -> list[int]:
    """The best token of each row; among equals the first, as the sampler has it."""
    best: list[int] = logits.numpy().argmax(-1).tolist()
    return best
