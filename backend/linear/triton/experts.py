"""Groups of rows, each by its own weight in planes, such as a layer's experts: one launch."""

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from backend.linear.kernel import GroupedProduct, LinearKernel
from backend.linear.triton import many_rows
from backend.linear.triton.decode import constants_of, places_args
from backend.linear.triton.repack import PackedPlanes
from backend.quant.planes import PlaneFormat


class PlaneGroups(GroupedProduct[PackedPlanes]):
    """Weights stay where they are: the kernel has a table of their addresses on the device.

    Nothing of where groups end is read on the host. Weights whose scales are shared by different
    numbers of columns are multiplied one after the other.
    """

    def __init__(
        self,
        kernel: LinearKernel[Any, PackedPlanes],
        planes: PlaneFormat,
        weights: Sequence[PackedPlanes],
        biases: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__(kernel, weights, biases)
        first = weights[0]
        self._first = first
        self._constants = constants_of(planes)
        self._is_alike = all(weight.places == first.places for weight in weights)
        addresses = [weight.data.data_ptr() for weight in weights]
        self._addresses = torch.tensor(addresses, device=first.data.device)
        self._all_biases = torch.stack(list(biases)) if biases is not None else None

    def apply(self, x: Tensor, ends: Tensor) -> Tensor:
        if not self._is_alike:
            return super().apply(x, ends)
        x = x if x.stride(1) == 1 else x.contiguous()
        first, num_groups = self._first, len(self._addresses)
        out = x.new_empty(len(x), first.num_features)
        if not out.numel():
            return out
        rows = many_rows.tile_rows(len(x) // num_groups)
        # Every group may end inside a tile, but none that has no rows.
        tiles = min(len(x), len(x) // rows + num_groups)
        many_rows.multiply_groups[(tiles, triton.cdiv(first.num_features, many_rows.FEATURES))](
            x,
            self._addresses,
            x if self._all_biases is None else self._all_biases,
            ends,
            out,
            x_stride=x.stride(0),
            out_stride=out.stride(0),
            num_groups=num_groups,
            HAS_BIAS=self._all_biases is not None,
            **places_args(first),
            **self._constants,
            FEATURES=many_rows.FEATURES,
            STEP_WORDS=many_rows.step_words(rows),
            ROWS=rows,
            GROUPS=triton.next_power_of_2(num_groups),
        )
        return out
