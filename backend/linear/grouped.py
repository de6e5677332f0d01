"""Products of rows by several weights of one shape: each group of rows by its own, in one call."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from backend.linear.kernel import GroupedProduct, SiluMul
from backend.linear.method import StackedWeight


class GroupedWeight:
    """Weights [N, K] of G groups, such as the experts of a layer."""

    def __init__(self, weights: Sequence[StackedWeight]) -> None:
        """weights: one a group, of the same shape."""
        self._weights = list(weights)
        self._num_features = sum(part.num_features for part in weights[0].parts)
        kernels = {part.kernel for weight in weights for part in weight.parts}
        self._product: GroupedProduct[Any] | None = None
        if len(kernels) == 1 and all(len(weight.parts) == 1 for weight in weights):
            self._product = kernels.pop().grouped([weight.parts[0].data for weight in weights])

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        """Multiply each group's rows of x by its weight.

        x: [M, K], the rows of a group together. ends: [G] int64, where each group's end.
        Returns [M, N].
        """
        if self._product is not None:
            return self._product.apply(x, ends)
        return self._one_by_one(x, ends, None)

    def apply_swiglu(self, x: Tensor, ends: Tensor, silu_mul: SiluMul) -> Tensor:
        """The same, then silu(the first half) * the second, [M, N / 2]."""
        if self._product is not None:
            return self._product.apply_swiglu(x, ends, silu_mul)
        return self._one_by_one(x, ends, silu_mul)

    def _one_by_one(self, x: Tensor, ends: Tensor, silu_mul: SiluMul | None) -> Tensor:
        """Where a group's weight is in several formats."""
        parts, start = [], 0
        for weight, end in zip(self._weights, ends.tolist(), strict=True):
            if end > start:
                rows = x[start:end]
                parts.append(
                    weight.apply_swiglu(rows, None, silu_mul) if silu_mul else weight.apply(rows)
                )
            start = end
        width = self._num_features // 2 if silu_mul else self._num_features
        return torch.cat(parts) if parts else x.new_empty(0, width)
