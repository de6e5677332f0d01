"""Ops that keep to what ops/triton/__init__.py asks for, in stock torch: what they take from a
batch they take when they run, so that a replay over other integers gives other results."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation
from backend.ops.cache_rows import Slots
from backend.ops.cpu import CpuOps
from backend.ops.exact import ExactOps


@dataclass(frozen=True, slots=True)
class LatePlan:
    batch: Batch
    spec: AttentionSpec
    num_heads: int

    def now(self) -> Batch:
        """The batch as it is now, without rows of padding, which stand at its end."""
        batch = self.batch
        num_seqs = int((batch.lens > 0).sum())
        starts = batch.starts[: num_seqs + 1].tolist()
        num_tokens = starts[-1]
        assert (batch.slot_mapping[num_tokens:] == -1).all(), "padding would write"
        return replace(
            batch,
            slot_mapping=batch.slot_mapping[:num_tokens],
            block_tables=batch.block_tables[:num_seqs],
            query_starts=starts,
            context_lens=batch.lens[:num_seqs].tolist(),
        )


@dataclass(slots=True)
class _Places:
    places: Slots


class ReplayOps(ExactOps):
    """Batch-invariant: padding changes no bit of other rows."""

    def __init__(self) -> None:
        super().__init__()
        del self.rotate_store

    def plan_attention(  # type: ignore[override]
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> LatePlan:
        return LatePlan(batch, spec, num_heads)

    def rotate_store(self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: Any) -> None:
        slots = plan.now().slot_mapping
        if (count := len(slots)) == 0:
            return
        rotation = rotation[0][:count], rotation[1][:count]
        CpuOps().rotate_store(qkv[:count], rotation, cache, _Places(Slots.of(slots, cache)))

    def attention(self, q: Tensor, cache: Tensor, plan: Any, sinks: Tensor | None = None) -> Tensor:
        batch = plan.now()
        count = batch.query_starts[-1]
        if count == 0:
            return torch.zeros_like(q)
        now = super().plan_attention(batch, cache, plan.num_heads, plan.spec)
        out = torch.zeros_like(q)
        out[:count] = super().attention(q[:count], cache, now, sinks)
        return out
