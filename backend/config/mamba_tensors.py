"""Which tensors a Mamba-2 layer has, and how ranks share each; see tensors.py."""

from collections.abc import Iterator

from backend.config.spec import Mamba2
from backend.config.tensor_info import Cut, TensorInfo, linear_tensors


def mamba_tensors(mamba: Mamba2, hidden: int) -> Iterator[tuple[str, TensorInfo]]:
    """Yield name -> TensorInfo."""
    width, shared = mamba.width, mamba.num_groups * mamba.state_dim
    convolved = (
        ("x", width, Cut.SSM_HEAD_ROWS),
        ("b", shared, Cut.SSM_GROUP_ROWS),
        ("c", shared, Cut.SSM_GROUP_ROWS),
    )
    heads = Cut.SSM_HEAD_ROWS
    for name, size, cut in (("gate", width, heads), *convolved, ("step", mamba.num_heads, heads)):
        yield from linear_tensors(f"mamba.{name}_proj", (size, hidden), cut, mamba.in_bias)
    for name, size, cut in convolved:
        info = TensorInfo((size, mamba.kernel), cut, is_plain=True, is_wide=True)
        yield f"mamba.{name}_conv.weight", info
        if mamba.has_conv_bias:
            yield f"mamba.{name}_conv.bias", info._replace(shape=(size,))
    for name in ("rates.weight", "skips.weight", "steps.bias"):
        yield f"mamba.{name}", TensorInfo((mamba.num_heads,), heads, is_wide=True)
    if mamba.norm != "none":
        yield "mamba.norm.weight", TensorInfo((width,), heads, is_wide=True)
    out = (hidden, width)
    yield from linear_tensors("mamba.out_proj", out, Cut.SSM_HEAD_COLUMNS, mamba.out_bias)
