"""Which tensors layers have that keep states, and how ranks share each; see tensors.py."""

from collections.abc import Iterator

from backend.config.delta_tensors import delta_tensors
from backend.config.mamba_tensors import mamba_tensors
from backend.config.spec import DeltaNet, Mamba2, ShortConv, StateMixer
from backend.config.tensor_info import Cut, TensorInfo, linear_tensors


def state_tensors(state: StateMixer, hidden: int) -> Iterator[tuple[str, TensorInfo]]:
    """Yield name -> TensorInfo of a layer's state mixer."""
    match state:
        case ShortConv():
            yield from _short_conv(state, hidden)
        case DeltaNet():
            yield from delta_tensors(state, hidden)
        case Mamba2():
            yield from mamba_tensors(state, hidden)


def _short_conv(conv: ShortConv, hidden: int) -> Iterator[tuple[str, TensorInfo]]:
    for name in ("b_proj", "c_proj", "x_proj"):
        shape = (conv.width, hidden)
        yield from linear_tensors(f"short_conv.{name}", shape, Cut.CHANNEL_ROWS, conv.has_bias)
    yield from conv_tensors("short_conv.conv", conv.width, conv.kernel, conv.has_bias)
    out = (hidden, conv.width)
    yield from linear_tensors("short_conv.out_proj", out, Cut.CHANNEL_COLUMNS, conv.has_bias)


def conv_tensors(
    name: str, channels: int, kernel: int, has_bias: bool, cut: Cut = Cut.CHANNEL_ROWS
) -> Iterator[tuple[str, TensorInfo]]:
    """Yield the tensors of a causal convolution of each channel by itself, [channels, kernel]."""
    info = TensorInfo((channels, kernel), cut, is_plain=True, is_wide=True)
    yield f"{name}.weight", info
    if has_bias:
        yield f"{name}.bias", info._replace(shape=(channels,))
