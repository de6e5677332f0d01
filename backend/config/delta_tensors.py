"""Which tensors a gated delta net has, and how ranks share each; see tensors.py."""

from collections.abc import Iterator

from backend.config.spec import DeltaNet
from backend.config.tensor_info import Cut, TensorInfo


def delta_tensors(delta: DeltaNet, hidden: int) -> Iterator[tuple[str, TensorInfo]]:
    """Yield name -> TensorInfo."""
    keys = delta.num_key_heads * delta.key_dim
    heads, values = delta.num_value_heads, delta.num_value_heads * delta.value_dim
    parts = (
        ("q", keys, Cut.DELTA_KEY_ROWS),
        ("k", keys, Cut.DELTA_KEY_ROWS),
        ("v", values, Cut.DELTA_VALUE_ROWS),
    )
    gates = (("z", values), ("b", heads), ("a", heads))
    for name, size, cut in (*parts, *((*gate, Cut.DELTA_VALUE_ROWS) for gate in gates)):
        yield f"linear_attn.{name}_proj.weight", TensorInfo((size, hidden), cut)
    for name, size, cut in parts:
        info = TensorInfo((size, delta.kernel), cut, is_plain=True, is_wide=True)
        yield f"linear_attn.{name}_conv.weight", info
    for name in ("rates.weight", "dt.bias"):
        yield f"linear_attn.{name}", TensorInfo((heads,), Cut.DELTA_VALUE_ROWS, is_wide=True)
    yield "linear_attn.norm.weight", TensorInfo((delta.value_dim,), is_wide=True)
    yield "linear_attn.out_proj.weight", TensorInfo((hidden, values), Cut.DELTA_VALUE_COLUMNS)
