"""The ops in stock torch, for CPUs (and, slower than kernels made for it, any other device)."""

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation
from backend.ops.cache_rows import Slots, store
from backend.ops.latent import TILE
from backend.ops.paged import PagedAttention
from backend.ops.routing import RoutingOps
from backend.ops.state_ops import StateOps
from backend.ops.tokenwise import TokenwiseOps


class HasPlaces(Protocol):
    """places: where new keys and values go in a layer's cache."""

    places: Slots


@dataclass(slots=True)
class _Plan:
    """places: where new keys and values go in a layer's cache."""

    places: Slots
    attention: PagedAttention


class CpuOps(TokenwiseOps, RoutingOps, StateOps):
    """See `Ops` for shapes."""

    name = "PyTorch's kernels"
    _latent_tile = TILE

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        if delta is not None:
            x = x + delta
        return x, F.rms_norm(x, weight.shape, weight, eps)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def plan_attention(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> _Plan:
        places = Slots.of(batch.slot_mapping, cache)
        return _Plan(places, PagedAttention(batch, cache, num_heads, spec))

    def rotate_store(self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: HasPlaces) -> None:
        num_kv_heads = cache.shape[2]
        self.rotate(qkv[:, :-num_kv_heads], rotation)
        store(qkv[:, -2 * num_kv_heads :], cache, plan.places)

    def attention(
        self, q: Tensor, cache: Tensor, plan: _Plan, sinks: Tensor | None = None
    ) -> Tensor:
        return plan.attention.run(q, cache, sinks)
