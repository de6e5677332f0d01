"""The oracle: every op as its formula, in fp32, one sequence at a time. For tests."""

import torch
from torch import Tensor

from backend.ops import Batch


class ReferenceOps:
    """See `Ops` for shapes. Computes in fp32 and returns the dtype it was given."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return (wide * scale * weight.float()).to(x.dtype)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = x.float().chunk(2, dim=-1)
        turned = [first * cos - second * sin, second * cos + first * sin]
        return torch.cat(turned, dim=-1).to(x.dtype)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.float().chunk(2, dim=-1)
        return (gate * torch.sigmoid(gate) * up).to(gate_up.dtype)

    def store_kv(self, k: Tensor, v: Tensor, slots: Tensor, cache: tuple[Tensor, Tensor]) -> None:
        for new, old in zip((k, v), cache, strict=True):
            old.view(-1, *old.shape[2:])[slots.long()] = new

    def plan_attention(self, batch: Batch, block_size: int, dtype: torch.dtype) -> Batch:
        return batch

    def attention(self, q: Tensor, cache: tuple[Tensor, Tensor], plan: Batch) -> Tensor:
        out = torch.empty_like(q)
        for s, context_len in enumerate(plan.context_lens):
            start, end = plan.query_starts[s : s + 2]
            blocks = plan.block_tables[s].long()
            k, v = (part[blocks].flatten(0, 1)[:context_len].float() for part in cache)
            out[start:end] = _attend(q[start:end].float(), k, v).to(q.dtype)
        return out


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k / sqrt(D)) v for the last T of L tokens, each over itself and those before it.

    q: [T, Hq, D]; k, v: [L, Hkv, D] -> [T, Hq, D].
    """
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("thd,lhd->htl", q, k) * q.shape[-1] ** -0.5
    places = torch.arange(len(k))
    scores.masked_fill_(places > places[-len(q) :, None], -torch.inf)
    return torch.einsum("htl,lhd->thd", scores.softmax(-1), v)
