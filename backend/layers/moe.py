"""Mixtures of experts (Shazeer et al. 2017): a router sends a token through a few MLPs of many."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from backend.config.spec import MLP, Experts
from backend.layers.compute_context import ComputeContext
from backend.layers.gating import clamped_gating, gating_of
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP
from backend.linear.grouped import GroupedWeight
from backend.ops.tokenwise import sigmoid


class Assignments(NamedTuple):
    """Which rows this rank's experts compute.

    Rows are tokens' choices: of T tokens that choose k each, T * k. order: the rows of these
    experts, expert after expert. ends: [experts] int64, where each expert's end in it. Where the
    host does not wait for the device all rows are in the order, and those behind the last end are
    other ranks'; has_others: there may be some.
    """

    order: Tensor
    ends: Tensor
    has_others: bool = False


class MixtureOfExperts:
    """The ranks share the columns of every expert, or the experts; their sums are summed once."""

    def __init__(self, loader: WeightLoader, experts: Experts, context: ComputeContext) -> None:
        self._experts = experts
        self._ops, self._tp = context.ops, context.tp
        self._router = loader.pack_dense("router.weight")
        self._router_bias = loader.take("router.bias").float() if experts.router_bias else None
        self._router_norm = loader.take("router_norm.weight") if experts.router_eps else None
        self._scales = loader.take("expert_scales.weight") if experts.has_scales else None
        self._correction = loader.take("router_correction.bias") if experts.has_correction else None
        self._own = range(experts.num)[loader.experts]
        places = [loader.at(f"experts.{index}") for index in self._own]
        self._gating = (
            clamped_gating(experts.clamp, context.ops)
            if experts.clamp
            else gating_of(experts.activation, context.ops)
        )
        self._up = _grouped(places, ["gate_proj", "up_proj"][not experts.is_gated :], experts)
        # Of experts whose columns ranks share the results are summed, and biases are added once.
        is_first = context.tp.rank == 0 or len(self._own) < experts.num
        self._down = _grouped(places, ["down_proj"], experts, adds_bias=is_first)
        shared = MLP(experts.shared_width, experts.activation, experts.is_gated)
        self._shared = (
            DenseMLP(loader.at("shared"), shared, context) if experts.shared_width else None
        )
        self._shared_gate = (
            loader.take("shared_gate.weight").float() if experts.shared_gate else None
        )
        is_latent = experts.latent_width > 0
        self._latent_in = loader.pack("latent_in.weight") if is_latent else None
        self._latent_out = loader.pack("latent_out.weight") if is_latent else None

    def forward(self, x: Tensor, routed: Tensor | None = None) -> Tensor:
        """[T, hidden] -> [T, hidden], the same on every rank.

        routed: what the router reads, where it is not x.
        """
        if len(x) == 0:
            return x
        chosen, weights = self.route(x if routed is None else routed)
        inner = x if self._latent_in is None else self._latent_in.apply(x)
        out = self._sum(self._run(inner, self.assign(chosen), chosen.shape[1]), weights)
        if self._latent_out is not None:
            out = self._latent_out.apply(out.to(x.dtype)).float()
        if self._shared:
            out += self._of_shared(x)
        return self._tp.all_reduce(out.to(x.dtype))

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, hidden] -> the chosen experts [T, k], best first, and their weights, float32."""
        experts = self._experts
        if self._router_norm is None:
            logits = self._router.logits(x)
        else:
            normed = self._ops.add_rms_norm(x, None, self._router_norm, experts.router_eps)[1]
            logits = self._router.logits(normed) * x.shape[1] ** -0.5
        if self._router_bias is not None:
            logits = logits + self._router_bias
        scores = logits.softmax(-1) if experts.router == "softmax" else sigmoid(logits)
        ranked = scores if self._correction is None else scores + self._correction
        if experts.num_groups > 1:
            ranked = _best_groups(ranked, experts)
        chosen = ranked.topk(experts.top_k, dim=-1).indices
        weights = scores.gather(1, chosen)
        if experts.renormalise:
            weights = weights / _sum_in_order(weights)[:, None]
        if self._scales is not None:
            weights = weights * self._scales[chosen]
        return chosen, weights * experts.weight_scale

    def assign(self, chosen: Tensor) -> Assignments:
        """Return the rows of this rank's experts. chosen: [T, k]."""
        flat = chosen.flatten()
        if self._ops.is_capturable:
            return self._assign_on_device(flat)
        order = flat.argsort(stable=True)
        ends = torch.bincount(flat, minlength=self._experts.num).cumsum(0)
        if len(self._own) == self._experts.num:
            return Assignments(order, ends)
        first = int(ends[self._own.start - 1]) if self._own.start else 0
        ends = ends[self._own.start : self._own.stop]
        return Assignments(order[first : int(ends[-1])], ends - first)

    def _assign_on_device(self, flat: Tensor) -> Assignments:
        """The same without the host, which knows no number of rows. flat: [T * k]."""
        # This rank's experts become the first, in their order.
        numbers = (flat - self._own.start) % self._experts.num
        ordered, order = numbers.sort(stable=True)
        names = torch.arange(len(self._own), device=flat.device)
        ends = torch.searchsorted(ordered, names, right=True)
        return Assignments(order, ends, len(self._own) < self._experts.num)

    def _run(self, x: Tensor, own: Assignments, top_k: int) -> Tensor:
        """Return what experts make of each token, [T, k, hidden]; 0 for those of other ranks."""
        rows = x.index_select(0, own.order // top_k)
        if self._experts.is_gated:
            inner = self._up.apply_gated(rows, own.ends, self._gating)
        else:
            inner = self._ops.activate(self._up.apply(rows, own.ends), self._experts.activation)
        results = self._down.apply(inner, own.ends)
        if own.has_others:  # nobody has computed those, and what lies there may be no number
            is_own = torch.arange(len(results), device=results.device) < own.ends[-1]
            results = results.where(is_own[:, None], 0.0)
        shape = (len(x) * top_k, x.shape[1])
        is_all = len(own.order) == shape[0]
        out = x.new_empty(shape) if is_all else x.new_zeros(shape)
        out.index_copy_(0, own.order, results)
        return out.view(len(x), top_k, -1)

    def _sum(self, results: Tensor, weights: Tensor) -> Tensor:
        """Add up [T, k, hidden] by [T, k] in the order of the choices, in float32, [T, hidden].

        One by one: the bits of a sum over a dimension may depend on the number of tokens.
        """
        return _sum_in_order(results.float() * weights[..., None])

    def _of_shared(self, x: Tensor) -> Tensor:
        """Return this rank's part of what the shared expert gives, [T, hidden]."""
        assert self._shared is not None
        out = self._shared.partial(x).float()
        if self._shared_gate is None:
            return out
        return out * sigmoid((x.float() * self._shared_gate).sum(-1, keepdim=True))


def _best_groups(ranked: Tensor, experts: Experts) -> Tensor:
    """Hide the scores [T, experts] of all but the best groups."""
    groups = ranked.view(len(ranked), experts.num_groups, -1)
    if experts.group_score == "best":
        scores = groups.amax(-1)
    else:
        scores = groups.topk(2, dim=-1).values.sum(-1)
    best = scores.topk(experts.top_groups, dim=-1).indices
    is_hidden = torch.ones_like(scores, dtype=torch.bool).scatter_(-1, best, False)
    return groups.masked_fill(is_hidden[..., None], -torch.inf).view(ranked.shape)


def _grouped(
    places: Sequence[WeightLoader],
    names: Sequence[str],
    experts: Experts,
    *,
    adds_bias: bool = True,
) -> GroupedWeight:
    """Return projections of one input of each expert, one above the other."""
    weights = [place.stack([f"{name}.weight" for name in names]) for place in places]
    if not experts.has_bias:
        return GroupedWeight(weights)
    biases = [torch.cat([place.take(f"{name}.bias") for name in names]) for place in places]
    return GroupedWeight(weights, biases if adds_bias else None)


def _sum_in_order(parts: Tensor) -> Tensor:
    """[T, k, ...] -> [T, ...], the same bits however many tokens there are."""
    first, *others = parts.unbind(1)
    total = first.clone()
    for part in others:
        total += part
    return total
