"""Mixtures of experts (Shazeer et al. 2017): a router sends a token through a few MLPs of many."""

from collections.abc import Sequence

import torch
from torch import Tensor

from backend.config.spec import MLP, Experts
from backend.layers.compute_context import ComputeContext
from backend.layers.gating import clamped_gating, gating_of
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP
from backend.linear.grouped import GroupedWeight
from backend.ops.routing import Router, SharedExpert


class MixtureOfExperts:
    """The ranks share the columns of every expert, or the experts; their sums are summed once."""

    def __init__(self, loader: WeightLoader, experts: Experts, context: ComputeContext) -> None:
        self._experts = experts
        self._ops, self._tp = context.ops, context.tp
        self._router = loader.pack_dense("router.weight")
        self._router_norm = loader.take("router_norm.weight") if experts.router_eps else None
        own = range(experts.num)[loader.experts]
        self._how = _router_of(experts, own, loader, self._router_norm)
        places = [f"experts.{index}" for index in own]
        self._gating = (
            clamped_gating(experts.clamp, context.ops)
            if experts.clamp
            else gating_of(experts.activation, context.ops)
        )
        projections = ["gate_proj", "up_proj"][not experts.is_gated :]
        self._up = _grouped(loader, places, projections, experts)
        # Of experts whose columns ranks share the results are summed, and biases are added once.
        is_first = context.tp.rank == 0 or len(own) < experts.num
        self._down = _grouped(loader, places, ["down_proj"], experts, adds_bias=is_first)
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
        routes = self._ops.route(self._logits(x if routed is None else routed), self._how)
        inner = x if self._latent_in is None else self._latent_in.apply(x)
        results = self._run(self._ops.gather_rows(inner, routes), routes.ends)
        shared = None
        if self._shared:
            shared = SharedExpert(self._shared.partial(x), x, self._shared_gate)
        if self._latent_out is None:
            out = self._ops.sum_experts(results, routes, shared)
        else:
            out = self._latent_out.apply(self._ops.sum_experts(results, routes))
            if shared is not None:
                own = shared.out if shared.gate is None else shared.weighed().to(x.dtype)
                out = self._ops.add(out, own)
        return self._tp.all_reduce(out)

    def _logits(self, x: Tensor) -> Tensor:
        """[T, hidden] -> [T, experts], float32."""
        if self._router_norm is not None:
            eps = self._experts.router_eps
            x = self._ops.add_rms_norm(x, None, self._router_norm, eps)[1]
        return self._router.logits(x)

    def _run(self, rows: Tensor, ends: Tensor) -> Tensor:
        """Return what experts make of their rows, [rows, width]."""
        if self._experts.is_gated:
            inner = self._up.apply_gated(rows, ends, self._gating)
        else:
            inner = self._ops.activate(self._up.apply(rows, ends), self._experts.activation)
        return self._down.apply(inner, ends)


def _router_of(experts: Experts, own: range, loader: WeightLoader, norm: Tensor | None) -> Router:
    """Return how a layer's experts are chosen. norm: of the router's input, by whose width's root
    it is divided."""

    def take(name: str, is_there: bool) -> Tensor | None:
        return loader.take(name).float() if is_there else None

    return Router(
        experts.num,
        experts.top_k,
        own,
        experts.router,
        experts.renormalise,
        experts.weight_scale,
        take("router.bias", experts.router_bias),
        take("router_correction.bias", experts.has_correction),
        take("expert_scales.weight", experts.has_scales),
        1.0 if norm is None else float(len(norm) ** -0.5),
        experts.num_groups,
        experts.top_groups,
        experts.group_score,
    )


def _grouped(
    loader: WeightLoader,
    places: Sequence[str],
    names: Sequence[str],
    experts: Experts,
    *,
    adds_bias: bool = True,
) -> GroupedWeight:
    """Return projections of one input of each expert, one above the other."""
    weights = loader.stacks([[f"{place}.{name}.weight" for name in names] for place in places])
    if not experts.has_bias:
        return GroupedWeight(weights)
    biases = [
        torch.cat([loader.take(f"{place}.{name}.bias") for name in names]) for place in places
    ]
    return GroupedWeight(weights, biases if adds_bias else None)
