"""Norms of groups of numbers that are gated, which end the layers that keep states."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Gate = Literal["behind", "before", "alone"]


@dataclass(frozen=True, slots=True)
class GatedNorm:
    """What is made of numbers x of a group and of a gate for each, g = silu(gate_scale * gate).

    gate: when it multiplies:

        behind   x / sqrt(mean(x^2) + eps) * weight * g           a delta net
        before   x g / sqrt(mean((x g)^2) + eps) * weight         most Mamba-2
        alone    x g * weight                                     Falcon-H1

    weight: float32, [n, D] of n groups of D numbers, or [D] of all alike. width: numbers of a whole
    group, of which other ranks have some; 0: all are here.
    """

    weight: Tensor
    eps: float
    gate: Gate = "behind"
    gate_scale: float = 1.0
    width: int = 0

    def num_averaged(self, dim: int) -> int:
        """Return of how many numbers the mean is, where this rank has D of each group."""
        return self.width or dim


def gated_norm(x: Tensor, gate: Tensor, norm: GatedNorm, squares: Tensor | None) -> Tensor:
    """See Ops.gated_norm."""
    opened = F.silu(gate.float() * norm.gate_scale).view(x.shape)
    wide = x.float() if norm.gate == "behind" else x.float() * opened
    if norm.gate != "alone":
        if squares is None:
            squares = wide.square().sum(-1)
        mean = squares / norm.num_averaged(x.shape[-1])
        wide = wide * torch.rsqrt(mean + norm.eps)[..., None]
    wide = wide * norm.weight
    if norm.gate == "behind":
        wide = wide * opened
    return wide.flatten(1).to(x.dtype)


def gated_squares(x: Tensor, gate: Tensor, norm: GatedNorm) -> Tensor:
    """See Ops.gated_squares."""
    wide = x.float()
    if norm.gate == "before":
        wide = wide * F.silu(gate.float() * norm.gate_scale).view(x.shape)
    return wide.square().sum(-1)
