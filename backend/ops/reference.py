"""The oracle: every op as its formula, in fp32, one sequence at a time. For tests."""

import torch
from torch import Tensor

from backend.ops.batch import Batch, Rotation


class ReferenceOps:
    """See `Ops` for shapes. Computes in fp32 and returns the dtype it was given."""

    name = "the oracle"

    def add_rms_norm(
        self, x: Tensor, delta: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        if delta is not None:
            x = x + delta
        wide = x.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return x, (wide * scale * weight.float()).to(x.dtype)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.float().chunk(2, dim=-1)
        return (gate * torch.sigmoid(gate) * up).to(gate_up.dtype)

    def plan_attention(self, batch: Batch, cache: Tensor, num_heads: int) -> Batch:
        return batch

    def rotate_store(self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: Batch) -> None:
        heads, size, dim = cache.shape[2:]
        x = qkv[:, :-heads].float()
        cos, sin = rotation
        first, second = x.chunk(2, dim=-1)
        swapped = torch.cat((second, first), dim=-1)
        qkv[:, :-heads] = (x * cos.float() + swapped * sin.float()).to(qkv.dtype)
        for token, slot in zip(qkv[:, -2 * heads :], plan.slot_mapping.tolist(), strict=True):
            cache[slot // size, :, :, slot % size] = token.view(2, heads, dim)

    def attention(self, q: Tensor, cache: Tensor, plan: Batch) -> Tensor:
        out = torch.empty_like(q)
        for s, context_len in enumerate(plan.context_lens):
            start, end = plan.query_starts[s : s + 2]
            blocks = cache[plan.block_tables[s].long()].float()
            k, v = blocks.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :context_len]  # [L, Hkv, D]
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
