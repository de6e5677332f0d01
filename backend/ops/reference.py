"""The oracle: every op as its formula, in fp32, one sequence at a time. For tests."""

from typing import NamedTuple

import torch
from torch import Tensor

from backend.config.spec import Activation
from backend.ops.batch import FULL, AttentionSpec, Batch, Rotation, StateBatch
from backend.ops.delta_rule import DeltaHeads
from backend.ops.gated_norm import GatedNorm
from backend.ops.routing import RoutingOps
from backend.ops.ssm_scan import SsmHeads
from backend.ops.tokenwise import TokenwiseOps


class Planned(NamedTuple):
    """A step, and how its layers attend."""

    batch: Batch
    spec: AttentionSpec


class ReferenceOps(TokenwiseOps, RoutingOps):
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

    def plan_attention(
        self, batch: Batch, cache: Tensor, num_heads: int, spec: AttentionSpec = FULL
    ) -> Planned:
        return Planned(batch, spec)

    def rotate_store(self, qkv: Tensor, rotation: Rotation, cache: Tensor, plan: Planned) -> None:
        heads, size, dim = cache.shape[2:]
        x = qkv[:, :-heads].float()
        cos, sin = rotation
        first, second = x.chunk(2, dim=-1)
        swapped = torch.cat((second, first), dim=-1)
        qkv[:, :-heads] = (x * cos.float() + swapped * sin.float()).to(qkv.dtype)
        for token, slot in zip(qkv[:, -2 * heads :], plan.batch.slot_mapping.tolist(), strict=True):
            cache[slot // size, :, :, slot % size] = token.view(2, heads, dim)

    def attention(
        self,
        q: Tensor,
        cache: Tensor,
        plan: Planned,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """sinks: [Hq], a score beside those of the keys, which has no value."""
        out = torch.empty_like(q)
        for s, context_len in enumerate(plan.batch.context_lens):
            start, end = plan.batch.query_starts[s : s + 2]
            blocks = cache[plan.batch.block_tables[s].long()].float()
            k, v = blocks.permute(1, 0, 3, 2, 4).flatten(1, 2)[:, :context_len]  # [L, Hkv, D]
            out[start:end] = _attend(q[start:end].float(), k, v, plan.spec, sinks).to(q.dtype)
        return out

    def causal_conv(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        state: Tensor,
        states: StateBatch,
        activation: Activation | None,
    ) -> Tensor:
        out = torch.empty(x.shape, dtype=x.dtype)
        for k, read in enumerate(states.reads.tolist()):
            window = state[read].clone() if read >= 0 else torch.zeros_like(state[0])
            for t in range(*states.start_list[k : k + 2]):
                inputs = torch.cat((window, x[t, None].float()))  # [taps, C]
                total = (inputs * weight).sum(0) + (0 if bias is None else bias)
                out[t] = self.activate(total, activation) if activation else total
                window = inputs[1:]
            state[int(states.writes[k])] = window
        return out

    def delta_rule(
        self,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        heads: DeltaHeads,
        state: Tensor,
        states: StateBatch,
    ) -> Tensor:
        width = heads.num_key_heads * heads.key_dim
        wide = x.float()
        out = torch.empty(len(x), *state.shape[1::2], dtype=x.dtype)
        for k, read in enumerate(states.reads.tolist()):
            write = int(states.writes[k])
            state[write] = state[read] if read >= 0 else 0
            for t in range(*states.start_list[k : k + 2]):
                query, key = (
                    part / (part.pow(2).sum(-1, keepdim=True) + heads.eps).sqrt()
                    for part in wide[t, : 2 * width].view(2, heads.num_key_heads, -1)
                )
                for h, place in enumerate(heads.key_heads.tolist()):
                    value = wide[t, 2 * width :].view(-1, heads.value_dim)[h]
                    step = torch.log1p(torch.exp(a[t, h].float() + heads.biases[h]))
                    decayed = state[write, h] * torch.exp(heads.rates[h] * step)
                    added = (value - decayed.T @ key[place]) * torch.sigmoid(b[t, h].float())
                    state[write, h] = decayed + torch.outer(key[place], added)
                    out[t, h] = state[write, h].T @ query[place] * heads.key_dim**-0.5
        return out

    def ssm_scan(
        self, x: Tensor, steps: Tensor, heads: SsmHeads, state: Tensor, states: StateBatch
    ) -> Tensor:
        width, shared = state.shape[1] * heads.head_dim, heads.num_groups * heads.state_dim
        out = torch.empty(len(x), *state.shape[1:3], dtype=x.dtype)
        for k, read in enumerate(states.reads.tolist()):
            write = int(states.writes[k])
            state[write] = state[read] if read >= 0 else 0
            for t in range(*states.start_list[k : k + 2]):
                own, keys, queries = torch.split(x[t].float(), [width, shared, shared])
                for h, group in enumerate(heads.groups.tolist()):
                    value = own.view(-1, heads.head_dim)[h]
                    key, query = (part.view(-1, heads.state_dim)[group] for part in (keys, queries))
                    raw = steps[t, h].float() * heads.step_scale + heads.biases[h]
                    step = torch.log1p(torch.exp(raw)).clamp(heads.steps_from, heads.steps_to)
                    decayed = state[write, h] * torch.exp(heads.rates[h] * step)
                    state[write, h] = decayed + torch.outer(value * step, key)
                    out[t, h] = state[write, h] @ query + heads.skips[h] * value
        return out

    def gated_norm(
        self, x: Tensor, gate: Tensor, norm: GatedNorm, squares: Tensor | None = None
    ) -> Tensor:
        wide, scaled = x.float(), gate.float().view(x.shape) * norm.gate_scale
        opened = scaled * torch.sigmoid(scaled)
        if norm.gate == "alone":
            return (wide * opened * norm.weight).flatten(1).to(x.dtype)
        if norm.gate == "before":
            wide = wide * opened
        sums = wide.pow(2).sum(-1) if squares is None else squares
        root = (sums / (norm.width or x.shape[-1]) + norm.eps).sqrt()
        normed = wide / root[..., None] * norm.weight
        return (normed if norm.gate == "before" else normed * opened).flatten(1).to(x.dtype)

    def gated_squares(self, x: Tensor, gate: Tensor, norm: GatedNorm) -> Tensor:
        scaled = gate.float().view(x.shape) * norm.gate_scale
        wide = x.float() * (scaled * torch.sigmoid(scaled) if norm.gate == "before" else 1)
        return wide.pow(2).sum(-1)


def _attend(q: Tensor, k: Tensor, v: Tensor, spec: AttentionSpec, sinks: Tensor | None) -> Tensor:
    """softmax(scale q k) v for the last T of L tokens, each over itself and those before it.

    q: [T, Hq, D]; k, v: [L, Hkv, D] -> [T, Hq, D].
    """
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scale = q.shape[-1] ** -0.5 if spec.scale is None else spec.scale
    scores = torch.einsum("thd,lhd->htl", q, k) * scale
    if spec.softcap:
        scores = spec.softcap * torch.tanh(scores / spec.softcap)
    places = torch.arange(len(k))
    behind = places[-len(q) :, None] - places
    scores.masked_fill_(behind < 0, -torch.inf)
    if spec.window:
        scores.masked_fill_(behind >= spec.window, -torch.inf)
    if sinks is not None:
        column = sinks.to(scores)[:, None, None].expand(-1, len(q), 1)
        scores = torch.cat((scores, column), dim=-1)
    weights = scores.softmax(-1)[..., : len(k)]
    return torch.einsum("htl,lhd->thd", weights, v)
