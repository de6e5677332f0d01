"""Which experts tokens go to, and the sum of what these give, in stock torch, on any device."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from backend.ops.tokenwise import sigmoid


@dataclass(frozen=True, slots=True)
class Router:
    """How the experts of a layer are chosen and weighed; see config/spec.py, Experts.

    num: all of them; own: those that this rank computes. bias, of the logits, correction, of the
    scores, and scales, of the weights: [num] float32, or None. logit_scale: what logits are
    multiplied by before the bias.
    """

    num: int
    top_k: int
    own: range
    score: Literal["softmax", "sigmoid"]
    renormalise: bool
    weight_scale: float
    bias: Tensor | None
    correction: Tensor | None
    scales: Tensor | None
    logit_scale: float
    num_groups: int
    top_groups: int
    group_score: Literal["best", "two_best"]


@dataclass(frozen=True, slots=True)
class Routes:
    """Where tokens go, as the op table that made it takes it.

    Rows are tokens' choices: of T tokens that choose k each, T * k. weights: [T, k] float32, best
    first. rows: those of this rank's experts, expert after expert. ends: [own experts] int64, where
    each expert's end in it. Where the host does not know how many they are all rows are there, and
    those behind the last end are other ranks', or nobody's; has_others: there may be some. places:
    [T * k], where in `rows` a row is, -1: with no expert of this rank; None if nobody asks.
    """

    weights: Tensor
    rows: Tensor
    ends: Tensor
    has_others: bool = False
    places: Tensor | None = None


@dataclass(frozen=True, slots=True)
class SharedExpert:
    """What the expert of all tokens gives, [T, W]. gate: [width of x] float32, or None: it counts
    sigmoid(x gate), x: [T, width of x]."""

    out: Tensor
    x: Tensor
    gate: Tensor | None

    def weighed(self) -> Tensor:
        """Return what it adds, [T, W] float32."""
        out = self.out.float()
        if self.gate is None:
            return out
        return out * sigmoid((self.x.float() * self.gate).sum(-1, keepdim=True))


class RoutingOps:
    """See `Ops` for shapes."""

    is_capturable = False

    def route(self, logits: Tensor, router: Router) -> Routes:
        chosen, weights = choose(logits, router)
        flat = chosen.flatten()
        if self.is_capturable:
            return _on_device(flat, weights, router)
        order = flat.argsort(stable=True)
        ends = torch.bincount(flat, minlength=router.num).cumsum(0)
        own = router.own
        if len(own) == router.num:
            return Routes(weights, order, ends)
        first = int(ends[own.start - 1]) if own.start else 0
        ends = ends[own.start : own.stop]
        return Routes(weights, order[first : int(ends[-1])], ends - first)

    def gather_rows(self, x: Tensor, routes: Routes) -> Tensor:
        return x.index_select(0, routes.rows // routes.weights.shape[1])

    def sum_experts(
        self, results: Tensor, routes: Routes, shared: SharedExpert | None = None
    ) -> Tensor:
        if routes.has_others:  # nobody has computed those, and what lies there may be no number
            is_own = torch.arange(len(results), device=results.device) < routes.ends[-1]
            results = results.where(is_own[:, None], 0.0)
        shape = (routes.weights.numel(), results.shape[1])
        is_all = len(routes.rows) == shape[0]
        spread = results.new_empty(shape) if is_all else results.new_zeros(shape)
        spread.index_copy_(0, routes.rows, results)
        parts = spread.view(*routes.weights.shape, -1).float() * routes.weights[..., None]
        total = _sum_in_order(parts)
        if shared is not None:
            total += shared.weighed()
        return total.to(results.dtype)


def choose(logits: Tensor, router: Router) -> tuple[Tensor, Tensor]:
    """[T, experts] float32 -> the chosen experts [T, k], best first, and their weights, float32."""
    if router.logit_scale != 1.0:
        logits = logits * router.logit_scale
    if router.bias is not None:
        logits = logits + router.bias
    scores = logits.softmax(-1) if router.score == "softmax" else sigmoid(logits)
    ranked = scores if router.correction is None else scores + router.correction
    if router.num_groups > 1:
        ranked = _best_groups(ranked, router)
    chosen = ranked.topk(router.top_k, dim=-1).indices
    weights = scores.gather(1, chosen)
    if router.renormalise:
        weights = weights / _sum_in_order(weights)[:, None]
    if router.scales is not None:
        weights = weights * router.scales[chosen]
    return chosen, weights * router.weight_scale


def _on_device(flat: Tensor, weights: Tensor, router: Router) -> Routes:
    """Assign rows without the host, which knows no number of them. flat: [T * k]."""
    # This rank's experts become the first, in their order.
    numbers = (flat - router.own.start) % router.num
    ordered, order = numbers.sort(stable=True)
    names = torch.arange(len(router.own), device=flat.device)
    ends = torch.searchsorted(ordered, names, right=True)
    return Routes(weights, order, ends, len(router.own) < router.num)


def _best_groups(ranked: Tensor, router: Router) -> Tensor:
    """Hide the scores [T, experts] of all but the best groups."""
    groups = ranked.view(len(ranked), router.num_groups, -1)
    if router.group_score == "best":
        scores = groups.amax(-1)
    else:
        scores = groups.topk(2, dim=-1).values.sum(-1)
    best = scores.topk(router.top_groups, dim=-1).indices
    is_hidden = torch.ones_like(scores, dtype=torch.bool).scatter_(-1, best, False)
    return groups.masked_fill(is_hidden[..., None], -torch.inf).view(ranked.shape)


def _sum_in_order(parts: Tensor) -> Tensor:
    """[T, k, ...] -> [T, ...], one by one: the bits of a sum over a dimension may depend on the
    number of tokens."""
    first, *others = parts.unbind(1)
    total = first.clone()
    for part in others:
        total += part
    return total
