"""What the ops of a forward pass run over: a StepPlan on the device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backend.step import StepPlan


@dataclass(slots=True)
class Batch:
    """A StepPlan on the device. T tokens, S sequences, B blocks of the longest, N samples,
    P scored tokens.

    input_ids, positions, slot_mapping: [T]; block_tables: [S, B]; output_tokens: [N + P], whose
    hidden states are wanted: those to be sampled, then those to be scored; all int32. query_starts
    [S + 1] and context_lens [S] stay on the host, where they steer loops.
    """

    input_ids: Tensor
    positions: Tensor
    slot_mapping: Tensor
    block_tables: Tensor
    output_tokens: Tensor
    query_starts: list[int]
    context_lens: list[int]
    num_decodes: int

    @classmethod
    def from_plan(cls, plan: StepPlan, device: torch.device) -> "Batch":
        """Copy a plan to the device, the integers in one piece."""
        words = torch.from_numpy(plan.words).to(device)

        def on_device(view: Any) -> Tensor:
            start = (view.ctypes.data - plan.words.ctypes.data) // 4
            return words[start : start + view.size].view(view.shape)

        return cls(
            on_device(plan.input_ids),
            on_device(plan.positions),
            on_device(plan.slot_mapping),
            on_device(plan.block_tables),
            torch.cat((on_device(plan.sample_tokens), on_device(plan.logprob_tokens))),
            plan.query_starts.tolist(),
            plan.context_lens.tolist(),
            plan.num_decodes,
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
