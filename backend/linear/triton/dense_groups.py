"""Groups of rows, each by its own dense weight, such as a layer's experts in 16 bits: one launch.

PyTorch's ways to do it read on the host where groups end. Here programs find that out on the
device, as those for weights in planes do (many_rows.py); rows behind the last group's end are left
alone.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from backend.linear.kernel import GroupedProduct, LinearKernel
from backend.linear.triton.many_rows import find_tile, tile_rows

FEATURES = 64
# Columns of a step: 64 rows and features of so many bytes, in three stages, are 48 KiB.
STEP_BYTES = 128


class DenseGroups(GroupedProduct[Tensor]):
    """Weights [N, K] stay where they are: the kernel has a table of their addresses."""

    def __init__(
        self,
        kernel: LinearKernel[Any, Tensor],
        weights: Sequence[Tensor],
        biases: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__(kernel, weights, biases)
        addresses = [weight.data_ptr() for weight in weights]
        self._addresses = torch.tensor(addresses, device=weights[0].device)
        self._all_biases = torch.stack(list(biases)) if biases is not None else None
        self._is_plain = all(weight.is_contiguous() for weight in weights)

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        if not self._is_plain:
            return super().apply(x, ends)
        x = x if x.stride(1) == 1 else x.contiguous()
        n, k = self._weights[0].shape
        num_groups = len(self._addresses)
        out = x.new_empty(len(x), n)
        if not out.numel():
            return out
        rows = tile_rows(len(x) // num_groups)
        # Every group may end inside a tile, but none that has no rows.
        tiles = min(len(x), len(x) // rows + num_groups)
        multiply_dense_groups[(tiles, triton.cdiv(n, FEATURES))](
            x,
            self._addresses,
            x if self._all_biases is None else self._all_biases,
            ends,
            out,
            x.stride(0),
            num_groups,
            n,
            k,
            HAS_BIAS=self._all_biases is not None,
            WIDE=triton.knobs.runtime.interpret,  # whose products of bfloat16 are wrong
            FEATURES=FEATURES,
            STEP=STEP_BYTES // x.element_size(),
            ROWS=rows,
            GROUPS=triton.next_power_of_2(num_groups),
        )
        return out


@triton.jit
def multiply_dense_groups(
    x,
    weights,
    biases,
    ends,
    out,
    x_stride,
    num_groups,
    n,
    k,
    HAS_BIAS: tl.constexpr,
    WIDE: tl.constexpr,
    FEATURES: tl.constexpr,
    STEP: tl.constexpr,
    ROWS: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """x: [M, K]. weights: [G], addresses of [N, K] each; biases: [G, N]; ends: [G]. out: [M, N].

    Grid: (tiles of rows, tiles of features), as multiply_groups() has it.
    """
    group, first_row, stop = find_tile(tl.program_id(0), ends, num_groups, ROWS, GROUPS)
    if group < num_groups:
        rows = first_row + tl.arange(0, ROWS)
        features = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
        is_row, is_feature = rows < stop, features < n
        weight = tl.load(weights + group).to(tl.pointer_type(x.dtype.element_ty))
        columns = tl.arange(0, STEP)
        of_weight = weight + features[:, None].to(tl.int64) * k + columns[None, :]
        of_rows = x + rows[None, :].to(tl.int64) * x_stride + columns[:, None]
        sums = tl.zeros([FEATURES, ROWS], tl.float32)
        for first in range(0, k, STEP):
            is_column = first + columns < k
            w = tl.load(of_weight + first, is_feature[:, None] & is_column[None, :], other=0.0)
            v = tl.load(of_rows + first, is_column[:, None] & is_row[None, :], other=0.0)
            if WIDE:
                w, v = w.to(tl.float32), v.to(tl.float32)
            sums = tl.dot(w, v, sums, input_precision="ieee")
        if HAS_BIAS:
            added = tl.load(biases + group * n + features, mask=is_feature, other=0.0)
            sums += added.to(tl.float32)[:, None]
        target = out + rows[None, :].to(tl.int64) * n + features[:, None]
        tl.store(target, sums.to(out.dtype.element_ty), mask=is_feature[:, None] & is_row[None, :])
