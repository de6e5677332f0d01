"""Products of rows by several weights of one shape: each group of rows by its own, in one call."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backend.linear.kernel import Gating, GroupedProduct
from backend.linear.method import StackedWeight


class GroupedWeight:
    """Weights [N, K] of G groups, such as the experts of a layer."""

    def __init__(
        self, weights: Sequence[StackedWeight], biases: Sequence[Tensor] | None = None
    ) -> None:
        """weights: one a group, of the same shape. biases: [N] of each."""
        self._weights = list(weights)
        self._biases = list(biases) if biases is not None else [None] * len(self._weights)
        self._num_features = sum(part.num_features for part in weights[0].parts)
        kernels = {part.kernel for weight in weights for part in weight.parts}
        self._product: GroupedProduct[Any] | None = None
        if len(kernels) == 1 and all(len(weight.parts) == 1 for weight in weights):
            packed = [weight.parts[0].data for weight in weights]
            self._product = kernels.pop().grouped(packed, biases)

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        """Multiply each group's rows of x by its weight, and add its bias.

        x: [M, K], the rows of a group together. ends: [G] int64, where each group's end.
        Returns [M, N].
        """
        if self._product is not None:
            return self._product.apply(x, ends)
        return self._one_by_one(x, ends)

    def apply_gated(self, x: Tensor, ends: Tensor, gating: Gating) -> Tensor:
        """The same, then the first half gates the second, [M, N / 2]."""
        if self._product is not None:
            return self._product.apply_gated(x, ends, gating)
        return gating.compute(self._one_by_one(x, ends))

    def _one_by_one(self, x: Tensor, ends: Tensor) -> Tensor:
        """Where a group's weight is in several formats."""
        parts, start = [], 0
        for weight, bias, end in zip(self._weights, self._biases, ends.tolist(), strict=True):
            if end > start:
                parts.append(weight.apply(x[start:end], bias))
            start = end
        return torch.cat(parts) if parts else x.new_empty(0, self._num_features)
