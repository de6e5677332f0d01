"""What a quantised linear is read by: values, scales, zero points, whatever holds them."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from backend.config.quantized_linears import StoredLinear

OpenTensor = Callable[[str], Any]
"""A name -> the file's tensor, of which slices can be read."""


class LinearParts(Protocol):
    """The parts of one linear [out, in]; rows and columns are the linear's, groups are of columns.

    middle: the zero point where there are none.
    """

    middle: int

    def values(self, rows: slice, cols: slice) -> Tensor:
        """Return values, uint8, int8 or fp8, [rows, cols]."""
        ...

    def scales(self, rows: slice, groups: slice) -> Tensor:
        """Return scales in the file's dtype, [rows, groups]."""
        ...

    def zeros(self, rows: slice, groups: slice) -> Tensor | None:
        """Return zero points, integers [rows, groups]; None where there are none."""
        ...


class NamedParts:
    """The file's tensors of a linear, by the names of parts."""

    def __init__(self, linear: StoredLinear, opened: OpenTensor) -> None:
        self.linear = linear
        self.bits = linear.scheme.bits
        self.middle = 1 << (self.bits - 1)
        self._opened = opened

    def part(self, name: str) -> Any:
        """Return the file's tensor of a part."""
        return self._opened(f"{self.linear.module}.{name}")
