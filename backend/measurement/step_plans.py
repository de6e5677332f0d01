"""Plans made by hand: steps of any batch at any context, without computing what stands before.

What a step costs does not depend on what the cached keys say, only on how many there are, and that
they lie in memory of their own: the blocks are written once before they are read. Serves models
with several cache groups, states and encoders. Knows no times.
"""

from dataclasses import dataclass

import torch

from backend.engine.engine import Engine
from backend.engine.model_runner import ModelRunner
from backend.step import Join, PlannedSequence, StepPlan, build_plan
from backend.wire.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0.0)
# Ids that are no special tokens in most vocabularies.
_FIRST_ID, _NUM_IDS = 10, 100


class NoRoom(ValueError):
    """The engine has no room for so many sequences of such a length. The message says what has."""


@dataclass(frozen=True, slots=True)
class StepPlans:
    """Makes plans for one engine. block_size: of its settings."""

    engine: Engine
    block_size: int

    @property
    def runner(self) -> ModelRunner:
        """What runs the plans. Raises NoRoom for a model that writes no tokens."""
        if not isinstance(self.engine.runner, ModelRunner):
            raise NoRoom("the model makes vectors or scores, it has no steps of tokens")
        return self.engine.runner

    def decodes(
        self, batch: int, context: int, params: SamplingParams = GREEDY, *, count: int
    ) -> list[StepPlan]:
        """Plan `count` steps of `batch` sequences, with `context` tokens before the first of them.

        Writes their blocks. Raises NoRoom.
        """
        length = context + count
        self._write_blocks(batch, length)
        history = self.prompt_ids(context) if params.looks_back else []
        plans = []
        for step in range(count):
            sequences = [
                self._sequence(self.prompt_ids(row + 1)[-1:], context + step, row, length, step)
                for row in range(batch)
            ]
            joins = [] if step else [Join(row, params, history, context) for row in range(batch)]
            plans.append(build_plan(step, sequences, joins, self.block_size))
        return plans

    def prompts(self, batch: int, length: int) -> list[StepPlan]:
        """Plan the steps that run `batch` prompts, one after the other where one step has not the
        budget for all. Of an encoder-decoder they are the encoder's. Raises NoRoom."""
        self._write_blocks(batch, length)
        if self.engine.config.encoder:
            return [self._encoding(batch, length)]
        chunks = _chunks(batch, length, self.engine.token_budget)
        plans = []
        for step, chunk in enumerate(chunks):
            sequences = [
                self._sequence(
                    self.prompt_ids(end)[start:], start, row, length, 0 if end == length else None
                )
                for row, start, end in chunk
            ]
            joins = [Join(row, GREEDY) for row, start, _ in chunk if start == 0]
            plans.append(build_plan(step, sequences, joins, self.block_size))
        return plans

    def prompt_ids(self, count: int) -> list[int]:
        """Return the tokens that prompts begin with."""
        several = min(_NUM_IDS, self.engine.config.vocab_size - _FIRST_ID)
        return [_FIRST_ID + 7 * place % several for place in range(count)]

    def _encoding(self, batch: int, length: int) -> StepPlan:
        """The decoders' first tokens, for which the encoder reads its whole input."""
        sequences = [
            self._sequence([_FIRST_ID], 0, row, length, 0, self.prompt_ids(length))
            for row in range(batch)
        ]
        return build_plan(
            0, sequences, [Join(row, GREEDY) for row in range(batch)], self.block_size
        )

    def _sequence(
        self,
        token_ids: list[int],
        start: int,
        row: int,
        length: int,
        output_position: int | None,
        encoder_ids: list[int] | None = None,
    ) -> PlannedSequence:
        """Return a sequence's share. length: of the whole, for its blocks."""
        table, *others = self._tables(row, length)
        cross = others.pop() if self.engine.config.encoder else []
        has_states = self.engine.num_slots > 0
        reads = -1 if start == 0 else row
        return PlannedSequence(
            token_ids,
            start,
            table,
            row,
            output_position,
            more_tables=others,
            cross_table=cross,
            num_encoder_tokens=length if cross else 0,
            encoder_ids=encoder_ids or [],
            state_segments=[(len(token_ids), reads, row)] if has_states else [],
        )

    @property
    def _num_tables(self) -> int:
        """Block tables of a sequence: one a cache group, one for its encoder's input."""
        return max(1, len(self.engine.groups)) + bool(self.engine.config.encoder)

    def _tables(self, row: int, length: int) -> list[list[int]]:
        """Blocks of its own for a sequence of a length, in each group."""
        width = length // self.block_size + 1
        first = row * self._num_tables * width
        return [
            [*range(first + n * width, first + (n + 1) * width)] for n in range(self._num_tables)
        ]

    def _write_blocks(self, batch: int, length: int) -> None:
        """Check that there is room, and give every block memory: pages that nothing has written
        are all the same one, and as fast to read as no other."""
        engine = self.engine
        if length >= engine.max_model_len:
            raise NoRoom(f"the model takes {engine.max_model_len:,} tokens, not {length:,}")
        if batch > engine.max_num_seqs:
            raise NoRoom(f"{engine.max_num_seqs} sequences run at a time, not {batch}")
        if not engine.groups and not engine.config.encoder:
            return
        needed = batch * self._num_tables * (length // self.block_size + 1)
        if needed > engine.num_blocks:
            raise NoRoom(
                f"{batch} sequences of {length:,} tokens take {needed:,} blocks of "
                f"{self.block_size}, the KV cache has {engine.num_blocks:,}"
            )
        self.runner.clear_blocks(torch.arange(needed, device=engine.device))


def _chunks(batch: int, length: int, budget: int) -> list[list[tuple[int, int, int]]]:
    """Share prompts out over steps: of each the rows with their first and last token, decodes, as
    single tokens count, first."""
    steps: list[list[tuple[int, int, int]]] = [[]]
    left = budget
    for row in range(batch):
        start = 0
        while start < length:
            if left == 0:
                steps.append([])
                left = budget
            end = min(length, start + left)
            steps[-1].append((row, start, end))
            left -= end - start
            start = end
    return [sorted(chunk, key=lambda part: part[2] - part[1] > 1) for chunk in steps]
