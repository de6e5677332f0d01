"""The op table of a forward pass. A backend is one class with these methods.

reference.py is the oracle, slow and in fp32; cpu.py is what serves; exact.py trades speed for
results that do not depend on the rest of the batch.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from backend.step import StepPlan


@dataclass(slots=True)
class Batch:
    """A StepPlan on the device. T tokens, S sequences, B blocks of the longest, N samples,
    P scored tokens.

    input_ids, positions, slots: [T]; block_tables: [S, B]; output_tokens: [N + P], whose hidden
    states are wanted: those to be sampled, then those to be scored; all int32.
    query_starts [S + 1] and context_lens [S] stay on the host, where they steer loops.
    """

    input_ids: Tensor
    positions: Tensor
    slots: Tensor
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
            on_device(plan.slots),
            on_device(plan.block_tables),
            torch.cat((on_device(plan.sample_tokens), on_device(plan.score_tokens))),
            plan.query_starts.tolist(),
            plan.context_lens.tolist(),
            plan.num_decodes,
        )


# cos and sin for each token, [T, 1, D], the first half of sin negated.
Rotation = tuple[Tensor, Tensor]


class Ops(Protocol):
    """T tokens, H hidden, Hq query heads, Hkv KV heads, D head size; this rank's share of heads.

    name: what the operator is told.
    """

    name: str

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        """Return s = x + delta and s / sqrt(mean(s^2) + eps) * weight, in x's dtype.

        x, delta: [T, H]. Without a delta s is x itself.
        """
        ...

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up. gate_up: [T, 2 I] -> [T, I]."""
        ...

    def plan_attention(self, batch: Batch, cache: Tensor, num_heads: int) -> Any:
        """What the two below need and every layer shares: indices and masks, made once a step.

        cache: of any layer, [blocks, 2, Hkv, block size, D]; how a head's part of a block lies is
        these ops' own affair. num_heads: Hq.
        """
        ...

    def rotate_store(self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: Any) -> None:
        """Rotate queries, in place, and keys; write keys and values into a layer's cache.

        qkv: [T, Hq + 2 Hkv, D], contiguous. The halves of each head are rotated: x cos + (x with
        its halves swapped) sin.
        """
        ...

    def attention(self, q: Tensor, cache: Tensor, plan: Any) -> Tensor:
        """Causal attention of q [T, Hq, D] over each sequence's blocks -> [T, Hq, D]."""
        ...
