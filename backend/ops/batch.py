"""What the ops of a forward pass run over: a StepPlan on the device."""

import bisect
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.ops.upload import upload
from backend.step import StepPlan


@dataclass(slots=True)
class CrossBatch:
    """What an encoder-decoder runs and attends to beside its decoder's tokens, on the device.

    input_ids, slot_mapping: [X] int32, of the encoders that run. tables: [S, C] int32 and lens [S]:
    of each sequence of the batch. On the host, where they steer loops: start_list [E + 1], where
    each input begins; len_list [S]: lens, or bounds for them where the batch is captured.
    """

    input_ids: Tensor
    slot_mapping: Tensor
    tables: Tensor
    lens: Tensor
    start_list: list[int]
    len_list: list[int]


@dataclass(slots=True)
class StateBatch:
    """The segments that a step's state mixers run, K of them, sequence after sequence.

    starts [K + 1]: segment k runs tokens starts[k] .. starts[k + 1]. reads [K]: the slot whose
    states it goes on from, -1: from zeros. writes [K]: the slot that gets its states after its last
    token. chains [S + 1]: sequence s has segments chains[s] .. chains[s + 1], one as a rule; of
    several each reads what the one before has just written, so they run in order, and sequences in
    any. All are int32, on the device; those in lists on the host. plan: what ops make of it once a
    step, for all layers.
    """

    starts: Tensor
    reads: Tensor
    writes: Tensor
    chains: Tensor
    start_list: list[int]
    chain_list: list[int]
    plan: Any = None


@dataclass(slots=True)
class Batch:
    """A StepPlan on the device. G cache groups, T tokens, S sequences, B blocks of the longest,
    N samples, P scored tokens.

    input_ids, positions, slot_mapping: [T]; block_tables: [S, B]; output_tokens: [N + P], whose
    hidden states are wanted: those to be sampled, then those to be scored; all int32. query_starts
    [S + 1] and context_lens [S] are on the host, where they steer loops; starts and lens are the
    same on the device. A batch that is captured has bounds in context_lens, see
    ops/triton/__init__.py. slot_mapping and block_tables are those of one cache group, the first
    unless group() gave the batch.
    slot_mappings [G, T] and group_tables [G, S, B] are of all. token_types: [T], the segment of
    each token, for encoders that know them; None where all are in the first. cross: of an
    encoder-decoder. states: of a model whose layers keep states. output_list:
    output_tokens on the host, of a batch that was made of a plan.
    """

    input_ids: Tensor
    positions: Tensor
    slot_mapping: Tensor
    block_tables: Tensor
    output_tokens: Tensor
    query_starts: list[int]
    context_lens: list[int]
    num_decodes: int
    slot_mappings: Tensor
    group_tables: Tensor
    starts: Tensor
    lens: Tensor
    token_types: Tensor | None = None
    cross: CrossBatch | None = None
    states: StateBatch | None = None
    output_list: list[int] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """The longest context of the decodes, or a bound for it where the batch is captured."""
        return max(self.context_lens[: self.num_decodes], default=0)

    def group(self, index: int) -> "Batch":
        """Return the batch as layers of one cache group attend to it."""
        return replace(
            self,
            slot_mapping=self.slot_mappings[index],
            block_tables=self.group_tables[index],
        )

    def alone(self, tokens: list[int]) -> "Batch":
        """Return the batch of some of the tokens, each as the one that its sequence runs.

        tokens: [N], by their places in the step. For layers that write no keys, and
        no states.
        """
        device = self.input_ids.device
        sequences = [bisect.bisect_right(self.query_starts, token) - 1 for token in tokens]
        behind = [self.context_lens[s] - self.query_starts[s + 1] for s in sequences]
        lens = [token + 1 + b for token, b in zip(tokens, behind, strict=True)]
        at, owners = upload(tokens, device), upload(sequences, device)
        return replace(
            self,
            input_ids=self.input_ids[at],
            positions=self.positions[at],
            slot_mapping=self.slot_mapping[at],
            block_tables=self.block_tables[owners],
            output_tokens=torch.arange(len(tokens), device=device),
            query_starts=[*range(len(tokens) + 1)],
            context_lens=lens,
            num_decodes=len(tokens),
            slot_mappings=self.slot_mappings[:, at],
            group_tables=self.group_tables[:, owners],
            starts=torch.arange(len(tokens) + 1, dtype=torch.int32, device=device),
            lens=upload(lens, device),
        )

    @classmethod
    def from_plan(cls, plan: StepPlan, device: torch.device) -> "Batch":
        """Copy a plan to the device, the integers in one piece."""
        words = upload(plan.words, device)

        def on_device(view: Any) -> Tensor:
            if device.type == "cpu":
                return torch.from_numpy(view)
            start = (view.ctypes.data - plan.words.ctypes.data) // 4
            return words[start : start + view.size].view(view.shape)

        slots, tables = on_device(plan.slot_mapping), on_device(plan.block_tables)
        cross = None
        if len(plan.cross_lens):
            cross = CrossBatch(
                on_device(plan.encoder_ids),
                on_device(plan.encoder_slots),
                on_device(plan.cross_tables),
                on_device(plan.cross_lens),
                [0, *plan.encoder_lens.cumsum().tolist()],
                plan.cross_lens.tolist(),
            )
        states = None
        if len(plan.state_reads):
            chains = plan.state_starts.searchsorted(plan.query_starts).astype(np.int32)
            states = StateBatch(
                on_device(plan.state_starts),
                on_device(plan.state_reads),
                on_device(plan.state_writes),
                upload(chains, device),
                plan.state_starts.tolist(),
                chains.tolist(),
            )
        samples, scored = on_device(plan.sample_tokens), len(plan.logprob_tokens)
        # Without a cache group nothing attends to a cache: there is no table to show.
        first = 0 if plan.num_groups else slice(0)
        return cls(
            on_device(plan.input_ids),
            on_device(plan.positions),
            slots[first],
            tables[first],
            torch.cat((samples, on_device(plan.logprob_tokens))) if scored else samples,
            plan.query_starts.tolist(),
            plan.context_lens.tolist(),
            plan.num_decodes,
            slots,
            tables,
            on_device(plan.query_starts),
            on_device(plan.context_lens),
            cross=cross,
            states=states,
            output_list=[*plan.sample_tokens.tolist(), *plan.logprob_tokens.tolist()],
        )


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """How a layer attends.

    scale: what products of queries and keys are multiplied by; None: D ** -0.5. softcap: c, where
    scores s become c * tanh(s / c); 0: they stay. window: a token sees so many keys, itself
    included; 0: all before it.
    """

    scale: float | None = None
    softcap: float = 0.0
    window: int = 0


# Every key, softmax of the plain scores.
FULL = AttentionSpec()

# cos and sin for each token, [T, 1, D], the first half of sin negated.
Rotation = tuple[Tensor, Tensor]
