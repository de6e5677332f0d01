"""What of a tensor ranks share, and how. No torch."""

import enum
from collections.abc import Iterator
from typing import NamedTuple


class Cut(enum.Enum):
    """What of a tensor each rank holds: rows or columns that belong to its share, or the whole."""

    WHOLE = enum.auto()
    QUERY_ROWS = enum.auto()
    KV_ROWS = enum.auto()
    QUERY_COLUMNS = enum.auto()
    MLP_ROWS = enum.auto()
    MLP_COLUMNS = enum.auto()
    CHANNEL_ROWS = enum.auto()
    CHANNEL_COLUMNS = enum.auto()
    VOCAB_ROWS = enum.auto()
    DELTA_KEY_ROWS = enum.auto()
    DELTA_VALUE_ROWS = enum.auto()
    DELTA_VALUE_COLUMNS = enum.auto()
    SSM_HEAD_ROWS = enum.auto()
    SSM_GROUP_ROWS = enum.auto()
    SSM_HEAD_COLUMNS = enum.auto()


_COLUMNS = (Cut.QUERY_COLUMNS, Cut.MLP_COLUMNS, Cut.CHANNEL_COLUMNS, Cut.SSM_HEAD_COLUMNS)


class TensorInfo(NamedTuple):
    """A tensor of a model.

    shape: of all of it, a matrix is [out, in]. is_plain: kept as it is, though it is a matrix: no
    linear layer multiplies by it. expert: whose it is, where it is one of a mixture's. is_wide:
    kept in float32, whatever the arithmetic of the forward pass. head_dim, num_kv_heads: of heads
    whose rows or columns it has, where its layer's are not the model's; else 0.
    """

    shape: tuple[int, ...]
    cut: Cut = Cut.WHOLE
    expert: int | None = None
    is_plain: bool = False
    is_wide: bool = False
    head_dim: int = 0
    num_kv_heads: int = 0


def linear_tensors(
    name: str, shape: tuple[int, int], cut: Cut, has_bias: bool
) -> Iterator[tuple[str, TensorInfo]]:
    """Return the tensors of a linear layer of a shape, [out, in]."""
    yield f"{name}.weight", TensorInfo(shape, cut)
    if has_bias:
        # Of a matrix cut by columns the ranks' products are summed, and the bias is added once.
        is_whole = cut in _COLUMNS
        yield f"{name}.bias", TensorInfo(shape[:1], Cut.WHOLE if is_whole else cut)
