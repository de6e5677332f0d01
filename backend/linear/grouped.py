"""Products of rows by several weights of one shape: each group of rows by its own, in one call."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backend.linear.kernel import Gating, GroupedProduct, LinearKernel
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
        self._num_features = weights[0].num_features
        layouts = {
            (part.kernel, part.kernel.layout_of(part.data))
            for weight in weights
            for part in weight.parts
        }
        cuts = {tuple(part.num_features for part in weight.parts) for weight in weights}
        self._product: GroupedProduct[Any] | None = None
        self._take: _TakenColumns | None = None
        self._columns: list[_MixedGroups] = []
        is_alike = len(cuts) == 1 and all(
            _TakenColumns.is_for(parts) for parts in zip(*(w.parts for w in weights), strict=True)
        )
        if is_alike and len(layouts) == len(weights[0].parts) == 1:
            parts = [weight.parts[0] for weight in weights]
            self._take = _TakenColumns.of(parts)
            self._product = layouts.pop()[0].grouped([part.data for part in parts], biases)
        elif is_alike and all(kernel.groups_on_device for kernel, _ in layouts):
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
            return self._product.apply(_taken(self._take, x, ends), ends)
        return self._one_by_one(x, ends)

    def apply_gated(self, x: Tensor, ends: Tensor, gating: Gating) -> Tensor:
        """The same, then the first half gates the second, [M, N / 2]."""
        if self._product is not None:
            return self._product.apply_gated(_taken(self._take, x, ends), ends, gating)
        return gating.compute(self._one_by_one(x, ends))

    def apply_by_head(self, x: Tensor, out: Tensor) -> None:
        """Multiply each token's heads, x [T, G, K], by the weights -> out [T, G, N].

        For weights of one layout, in the order of x. Tokens and heads of both may lie apart.
        """
        assert self._product is not None and self._take is None
        self._product.apply_by_head(x, out)

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


class _TakenColumns(NamedTuple):
    """Columns of rows, as the weight of each one's group has them. orders: int32 [G, K']."""

    kernel: LinearKernel[Any, Any]
    orders: Tensor

    @staticmethod
    def is_for(parts: Sequence[PackedWeight]) -> bool:
        """Whether weights all have as many columns, in orders of their own or in that of x."""
        return len({0 if part.order is None else len(part.order) for part in parts}) == 1

    @classmethod
    def of(cls, parts: Sequence[PackedWeight]) -> "_TakenColumns | None":
        """Return it for weights, one a group; None for those in the order of x."""
        orders = [part.order for part in parts if part.order is not None]
        return cls(parts[0].kernel, torch.stack(orders)) if orders else None


def _taken(columns: _TakenColumns | None, x: Tensor, ends: Tensor) -> Tensor:
    return x if columns is None else columns.kernel.take_columns(x, columns.orders, ends)


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
        self._take = _TakenColumns.of(weights)
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
        x = _taken(self._take, x, ends)
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
