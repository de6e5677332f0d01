"""The ops in stock torch, for CPUs (and, slower than kernels made for it, any other device)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.ops import Batch
from backend.ops.paged import PagedAttention
from backend.ops.places import places_of, store


@dataclass(slots=True)
class _Plan:
    """places: [T * 2 * Hkv], rows of a layer's cache where new keys and values go."""

    places: Tensor
    attention: PagedAttention


class CpuOps:
    """See `Ops` for shapes."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, eps)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def plan_attention(self, batch: Batch, cache: Tensor, num_heads: int) -> _Plan:
        places = places_of(batch.slots, cache)
        return _Plan(places, PagedAttention(batch, cache, num_heads))

    def store_kv(self, kv: Tensor, cache: Tensor, plan: _Plan) -> None:
        store(kv, cache, plan.places)

    def attention(self, q: Tensor, cache: Tensor, plan: _Plan) -> Tensor:
        return plan.attention.run(q, cache)
