"""Columns of activations in the order of a weight's whose groups were brought together."""

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def take_columns(x: Tensor, order: Tensor, ends: Tensor | None) -> Tensor:
    """See LinearKernel.take_columns."""
    x = x if x.stride(1) == 1 else x.contiguous()
    count = order.shape[-1]
    out = x.new_empty(len(x), count)
    if out.numel():
        num_groups = 1 if ends is None else len(ends)
        _take_columns[(len(x), triton.cdiv(count, BLOCK))](
            x,
            order,
            order if ends is None else ends,
            out,
            x.stride(0),
            x.shape[1],
            count,
            num_groups,
            HAS_GROUPS=ends is not None,
            GROUPS=triton.next_power_of_2(num_groups),
            BLOCK=BLOCK,
        )
    return out


@triton.jit
def _take_columns(
    x,
    order,
    ends,
    out,
    x_stride,
    width,
    count,
    num_groups,
    HAS_GROUPS: tl.constexpr,
    GROUPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[t, i] = x[t, order[i]], 0 where order[i] is the width. Grid: (rows, places)."""
    row = tl.program_id(0)
    places = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_inside = places < count
    if HAS_GROUPS:
        numbers = tl.arange(0, GROUPS)
        stops = tl.load(ends + numbers, mask=numbers < num_groups, other=0).to(tl.int32)
        ended = tl.sum(((stops <= row) & (numbers < num_groups)).to(tl.int32), 0)
        # Rows behind the last group's are nobody's.
        order += tl.minimum(ended, num_groups - 1).to(tl.int64) * count
    columns = tl.load(order + places, mask=is_inside, other=0)
    values = tl.load(
        x + row.to(tl.int64) * x_stride + columns, mask=is_inside & (columns < width), other=0.0
    )
    tl.store(out + row.to(tl.int64) * count + places, values, mask=is_inside)
