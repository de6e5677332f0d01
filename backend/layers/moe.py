"""Mixtures of experts (Shazeer et al. 2017): a router sends a token through a few MLPs of many."""

import torch
from torch import Tensor

from backend.config.spec import MLP, Experts
from backend.layers.compute_context import ComputeContext
from backend.layers.linear import GatedLinear
from backend.layers.loader import WeightLoader
from backend.layers.mlp import DenseMLP


class MixtureOfExperts:
    """The ranks share the columns of every expert; their weighted sums are summed once."""

    def __init__(self, loader: WeightLoader, experts: Experts, context: ComputeContext) -> None:
        self._experts = experts
        self._tp = context.tp
        self._router = loader.take("router.weight").float()
        self._correction = (
            loader.take("router_correction.bias").float() if experts.has_correction else None
        )
        self._up = []
        self._down = []
        for index in range(experts.num):
            expert = loader.at(f"experts.{index}")
            self._up.append(
                GatedLinear(expert, ["gate_proj", "up_proj"], experts.activation, context)
            )
            self._down.append(expert.pack("down_proj.weight"))
        shared = MLP(experts.shared_width, experts.activation)
        self._shared = (
            DenseMLP(loader.at("shared"), shared, context) if experts.shared_width else None
        )
        self._shared_gate = (
            loader.take("shared_gate.weight").float() if experts.shared_gate else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[T, hidden] -> [T, hidden], the same on every rank."""
        chosen, weights = self.route(x)
        out = self._tp.all_reduce(self._run(x, chosen, weights))
        if self._shared:
            shared = self._shared.forward(x)
            if self._shared_gate is not None:
                shared = shared * torch.sigmoid(x.float() @ self._shared_gate.T).to(x.dtype)
            out = out + shared
        return out

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, hidden] -> the chosen experts [T, k], best first, and their weights, float32."""
        experts = self._experts
        # A row at a time: its scores do not depend on the batch.
        logits = (x.float()[:, None, :] * self._router).sum(-1)
        scores = logits.softmax(-1) if experts.router == "softmax" else logits.sigmoid()
        ranked = scores if self._correction is None else scores + self._correction
        chosen = ranked.topk(experts.top_k, dim=-1).indices
        weights = scores.gather(1, chosen)
        if experts.renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        return chosen, weights * experts.weight_scale

    def _run(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Run each expert over its tokens; add up a token's in the order of its choice."""
        order = chosen.flatten().argsort(stable=True)
        rows = order // chosen.shape[1]
        counts = torch.bincount(chosen.flatten(), minlength=self._experts.num).tolist()
        results = x.new_empty(len(order), x.shape[1])
        start = 0
        for index, count in enumerate(counts):
            if count:
                places = slice(start, start + count)
                inner = self._up[index].forward(x.index_select(0, rows[places]))
                results[order[places]] = self._down[index].apply(inner)
                start += count
        parts = results.view(*chosen.shape, -1).float() * weights[..., None]
        return parts.sum(1).to(x.dtype)
