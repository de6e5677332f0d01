"""The integers of a captured step of decodes: one block on the host, one copy, one block on the
device whose addresses never change.

    words (int32)     shape      meaning                                         padding
    input_ids         [R]        tokens to run; -1 - r: the newest of row r      0
    positions         [R]        place of each in its sequence                   0
    lens              [R]        tokens of its sequence in the cache             0
    sample_rows       [R]        slot of the sampling state                      -1
    sample_positions  [R]        output position                                 0
    state_reads       [R]        slot whose states it goes on from               -1
    state_writes      [R]        slot that gets its states                       -1
    cross_lens        [R]        tokens of the encoder's input that it sees      0
    slot_mapping      [G, R]     where its keys and values go                    -1
    block_tables      [G, R, B]  its blocks                                      0
    cross_tables      [R, B]     of an encoder-decoder: blocks of that input     0

R rows of the size, G cache groups, B blocks of its longest context or input. Rows of padding read
and write nothing (ops/triton/__init__.py says what ops owe them).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backend.ops.batch import Batch, CrossBatch, StateBatch
from backend.placement.decode_sizes import DecodeSize
from backend.step import Ints, StepPlan

_PADDING = (0, 0, 0, -1, 0, -1, -1, 0)
_STATES, _CROSS = 5, 7


@dataclass(frozen=True, slots=True)
class DecodeLayout:
    """How a size's integers lie. has_encoder: of an encoder-decoder."""

    size: DecodeSize
    num_groups: int
    block_size: int
    has_encoder: bool = False

    @property
    def width(self) -> int:
        """Blocks of the longest context or input."""
        return -(-self.size.context // self.block_size)

    @property
    def num_words(self) -> int:
        tables = self.num_groups + self.has_encoder
        return self.size.rows * (len(_PADDING) + self.num_groups + tables * self.width)

    def fill(self, words: Ints, plan: StepPlan | None) -> None:
        """Write a plan of decodes, each of them sampled, and padding behind it; None: only that.

        words: [num_words], whatever is in them.
        """
        columns, slots, tables, cross_tables = self._parts(words)
        columns[:] = [[padding] for padding in _PADDING]
        slots[:] = -1
        tables[:] = 0
        cross_tables[:] = 0
        if plan is None:
            return
        rows, num_blocks = plan.num_seqs, plan.block_tables.shape[2]
        of_rows = [
            plan.input_ids,
            plan.positions,
            plan.context_lens,
            plan.sample_rows,
            plan.sample_positions,
        ]
        for column, values in zip(columns, of_rows, strict=False):
            column[:rows] = values
        if len(plan.state_reads):
            columns[_STATES : _STATES + 2, :rows] = plan.state_reads, plan.state_writes
        if self.has_encoder:
            columns[_CROSS, :rows] = plan.cross_lens
            cross_tables[:rows, : plan.cross_tables.shape[1]] = plan.cross_tables
        slots[:, :rows] = plan.slot_mapping
        tables[:, :rows, :num_blocks] = plan.block_tables

    def _parts(self, words: Any) -> tuple[Any, Any, Any, Any]:
        """Return views into a block, on the host or on the device: [8, R], [G, R], [G, R, B],
        [R, B], whose last is empty where there is no encoder."""
        rows, groups = self.size.rows, self.num_groups
        slots = len(_PADDING) * rows
        tables = slots + groups * rows
        cross = tables + groups * rows * self.width
        return (
            words[:slots].reshape(len(_PADDING), rows),
            words[slots:tables].reshape(groups, rows),
            words[tables:cross].reshape(groups, rows, self.width),
            words[cross : self.num_words].reshape(-1, self.width),
        )

    def batch(self, words: Tensor, input_ids: Tensor, *, has_states: bool) -> Batch:
        """Return the batch over a block on the device, [num_words] or more.

        input_ids: [R], where the tokens are once it is known which they are. has_states: layers
        keep states.
        """
        columns, slots, tables, cross_tables = self._parts(words)
        _, positions, lens, _, _, reads, writes, cross_lens = columns
        rows, device = self.size.rows, words.device
        starts = torch.arange(rows + 1, dtype=torch.int32, device=device)
        places, bounds = [*range(rows + 1)], [self.size.context] * rows
        cross = None
        if self.has_encoder:
            nothing = words[:0]
            cross = CrossBatch(nothing, nothing, cross_tables, cross_lens, [0], bounds)
        # Without a cache group nothing attends to a cache: there is no table to show.
        first = 0 if self.num_groups else slice(0)
        return Batch(
            input_ids,
            positions,
            slots[first],
            tables[first],
            starts[:-1],
            places,
            bounds,
            rows,
            slots,
            tables,
            starts,
            lens,
            cross=cross,
            states=StateBatch(starts, reads, writes, starts, places, places)
            if has_states
            else None,
        )

    def drawn_ids(self, words: Tensor) -> Tensor:
        """Return input_ids as the plan has them, [R]."""
        ids: Tensor = self._parts(words)[0][0]
        return ids

    def samples(self, words: Tensor, num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return sample_rows, sample_positions and positions of the first rows, [N] each."""
        columns = self._parts(words)[0]
        return columns[3, :num_rows], columns[4, :num_rows], columns[1, :num_rows]
