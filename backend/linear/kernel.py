"""What multiplies by a weight of one format; registry.py says which serves when."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from backend.ops.topk import argmax

# What is packed: a dense weight [N, K], or a QuantizedWeight.
W = TypeVar("W")
# What the kernel makes of it.
P = TypeVar("P")

# [T] -> those rows of a weight, [T, K] in the dtype of the forward pass
Embed = Callable[[Tensor], Tensor]


class Gating(NamedTuple):
    """How one half of a product gates the other.

    compute: does it, [M, N] -> [M, N / 2]. limit, alpha, offset: of what it computes, for kernels
    that have it in one pass: g * sigmoid(alpha * g) * (u + offset), see GateClamp of
    config/spec.py; 0: there is no limit. is_fusible: whether that is what it computes at all.
    """

    compute: Callable[[Tensor], Tensor]
    limit: float = 0.0
    alpha: float = 1.0
    offset: float = 0.0
    is_fusible: bool = True


class LinearKernel(ABC, Generic[W, P]):
    """Packs weights of one format once, then multiplies by them in every step.

    Shapes: x [M, K], a weight [N, K]. Results are in the dtype of x but for logits.
    embeds: rows of a packed weight can be looked up.
    """

    embeds = False

    @abstractmethod
    def pack(self, weight: W) -> P:
        """Return the kernel's form of a weight. The caller gives the weight away."""

    @abstractmethod
    def size_bytes(self, packed: P) -> int:
        """Return what a packed weight takes."""

    @abstractmethod
    def apply(self, x: Tensor, packed: P, bias: Tensor | None) -> Tensor:
        """x W^T + bias, [M, N]."""

    def apply_into(self, x: Tensor, packed: P, bias: Tensor | None, out: Tensor) -> None:
        """Write x W^T + bias to out, [M, N], whose rows may lie apart."""
        out.copy_(self.apply(x, packed, bias))

    def apply_gated(self, x: Tensor, packed: P, bias: Tensor | None, gating: Gating) -> Tensor:
        """gating of x W^T + bias, [M, N / 2]; in one pass where the kernel has one."""
        return gating.compute(self.apply(x, packed, bias))

    def logits(self, x: Tensor, packed: P) -> Tensor:
        """x W^T in float32, [M, N], as exact as the kernel has it."""
        return self.apply(x, packed, None).float()

    def argmax(self, x: Tensor, packed: P) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of logits, [M], NaN if it has one, and its place, [M], the
        first of equals."""
        return argmax(self.logits(x, packed))

    def take_columns(self, x: Tensor, order: Tensor, ends: Tensor | None = None) -> Tensor:
        """Return columns of x in the order in which a weight has them, [M, K] -> [M, K'].

        order: int32 [K'], K for a column of zeros; or [G, K'], of groups of rows, each of which has
        such columns or none has, with ends [G] int64, where they end.
        """
        if order.shape[-1] > x.shape[1]:
            x = F.pad(x, (0, 1))
        if ends is None:
            return x.index_select(1, order)
        rows = torch.arange(len(x), device=x.device)
        groups = torch.searchsorted(ends, rows, right=True).clamp_(max=len(order) - 1)
        return x.gather(1, order[groups].long())

    def embed(self, packed: P, ids: Tensor) -> Tensor:
        """Return rows of a weight, [T] -> [T, K]; for kernels that say so alone."""
        raise NotImplementedError

    @property
    def groups_on_device(self) -> bool:
        """Whether grouped() finds on the device whose rows are whose, for weights of one layout."""
        return False

    def layout_of(self, packed: P) -> Hashable:
        """Return what weights must have alike for grouped() to do so, beside their shape."""
        return None

    def grouped(
        self, weights: Sequence[P], biases: Sequence[Tensor] | None = None
    ) -> "GroupedProduct[P]":
        """Return what multiplies groups of rows, each by its own of these, all of one shape.

        biases: [N] of each.
        """
        return GroupedProduct(self, weights, biases)


class GroupedProduct(Generic[P]):
    """Groups of rows, each by its own weight: one after the other, for kernels without a better."""

    def __init__(
        self,
        kernel: LinearKernel[Any, P],
        weights: Sequence[P],
        biases: Sequence[Tensor] | None = None,
    ) -> None:
        self._kernel = kernel
        self._weights = list(weights)
        self._biases = list(biases) if biases is not None else [None] * len(self._weights)

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        """x [M, K], the rows of a group together, which end at ends [G] -> [M, N]."""
        return self._each(x, ends, self._kernel.apply)

    def apply_gated(self, x: Tensor, ends: Tensor, gating: Gating) -> Tensor:
        """The same, then the first half gates the second, [M, N / 2]."""
        return gating.compute(self.apply(x, ends))

    def apply_by_head(self, x: Tensor, out: Tensor) -> None:
        """Multiply each token's heads, x [T, G, K], by the weights -> out [T, G, N].

        Tokens and heads of both may lie apart.
        """
        tokens, num_heads, _ = x.shape
        ends = torch.arange(1, num_heads + 1, device=x.device) * tokens
        rows = self.apply(x.transpose(0, 1).flatten(0, 1), ends)
        out.copy_(rows.view(num_heads, tokens, rows.shape[1]).transpose(0, 1))

    def _each(
        self, x: Tensor, ends: Tensor, multiply: Callable[[Tensor, P, Tensor | None], Tensor]
    ) -> Tensor:
        parts, start = [], 0
        for weight, bias, end in zip(self._weights, self._biases, ends.tolist(), strict=True):
            if end > start:
                parts.append(multiply(x[start:end], weight, bias))
            start = end
        return torch.cat(parts) if parts else multiply(x, self._weights[0], None)
