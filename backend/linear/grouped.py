"""Products of rows by several weights of one shape: each group of rows by its own, in one call."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from backend.linear.kernel import Gating, GroupedProduct
from backend.linear.method import PackedWeight, StackedWeight
from backend.ops.upload import upload


class GroupedWeight:
    """Weights [N, K] of G groups, such as the experts of a layer."""

    def __init__(
        self, weights: Sequence[StackedWeight], biases: Sequence[Tensor] | None = None
    ) -> None:
        """weights: one a group, of the same shape. biases: [N] of each."""
        self._weights = list(weights)
        self._biases = list(biases) if biases is not None else [None] * len(self._weights)
        self._num_features = sum(part.num_features for part in weights[0].parts)
        layouts = {
            (part.kernel, part.kernel.layout_of(part.data))
            for weight in weights
            for part in weight.parts
        }
        cuts = {tuple(part.num_features for part in weight.parts) for weight in weights}
        self._product: GroupedProduct[Any] | None = None
        self._columns: list[_MixedGroups] = []
        if len(layouts) == 1 and len(weights[0].parts) == len(cuts) == 1:
            packed = [weight.parts[0].data for weight in weights]
            self._product = layouts.pop()[0].grouped(packed, biases)
        elif len(cuts) == 1 and all(kernel.groups_on_device for kernel, _ in layouts):
            ends = [*accumulate(cuts.pop(), initial=0)]
            self._columns = [
                _MixedGroups(
                    [weight.parts[n] for weight in weights], biases, slice(*ends[n : n + 2])
                )
                for n in range(len(ends) - 1)
            ]

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
        """Where weights are in several formats: as the device has it, or the host, which waits."""
        if self._columns:
            return torch.cat([columns.apply(x, ends) for columns in self._columns], 1)
        parts, start = [], 0
        for weight, bias, end in zip(self._weights, self._biases, ends.tolist(), strict=True):
            if end > start:
                parts.append(weight.apply(x[start:end], bias))
            start = end
        return torch.cat(parts) if parts else x.new_empty(0, self._num_features)


class _MixedGroups:
    """Some features of groups whose weights are of several layouts, without the host.

    Each kernel multiplies all rows, those of a group that is not its own by the first that is; a
    row takes what its own group's gave. So a row costs as many products as there are layouts.
    """

    def __init__(
        self, weights: Sequence[PackedWeight], biases: Sequence[Tensor] | None, features: slice
    ) -> None:
        """biases: of each group, of all features."""
        own = None if biases is None else [bias[features].contiguous() for bias in biases]
        layouts = [(weight.kernel, weight.kernel.layout_of(weight.data)) for weight in weights]
        self._products: list[GroupedProduct[Any]] = []
        for layout in (kinds := list(dict.fromkeys(layouts))):
            first = weights[layouts.index(layout)].data
            packed = [
                weight.data if kind == layout else first
                for weight, kind in zip(weights, layouts, strict=True)
            ]
            self._products.append(layout[0].grouped(packed, own))
        self._numbers = [kinds.index(layout) for layout in layouts]
        self._whose: Tensor | None = None  # [G], on the device from the first step on

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        """See GroupedWeight."""
        out, *others = [product.apply(x, ends) for product in self._products]
        if not others or not len(x):
            return out
        if self._whose is None:
            self._whose = upload(self._numbers, x.device)
        rows = torch.arange(len(x), device=x.device, dtype=ends.dtype)
        groups = torch.searchsorted(ends, rows, right=True).clamp_(max=len(self._numbers) - 1)
        whose = self._whose[groups][:, None]
        for number, other in enumerate(others, 1):
            out = torch.where(whose == number, other, out)
        return out
