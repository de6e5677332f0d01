"""What a linear method is: how a rank packs a weight, and multiplies by it in every step."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from backend.quant.stored import StoredWeight

# [T] -> those rows of a weight, [T, K] in the arithmetic's dtype
LookUp = Callable[[Tensor], Tensor]
# silu(gate) * up, see Ops.silu_mul
SiluMul = Callable[[Tensor], Tensor]


class WeightFootprint(NamedTuple):
    """What a method keeps of a weight.

    is_dense: itself, in the arithmetic's dtype. few_bits: of each number, in groups, with its share
    of scale and minimum. looks_up: rows of it can be looked up.
    """

    is_dense: bool
    few_bits: float
    looks_up: bool = False


class LinearMethod(Protocol):
    """Packs a weight once, then multiplies by it in every step."""

    def pack(self, stored: StoredWeight) -> Any:
        """Return this method's form of a weight [N, K]."""
        ...

    def kept(self, group_bits: int | None, width: int) -> WeightFootprint:
        """Return what it would keep of a weight [N, width] that the file has in groups of so many
        bits, or in none."""
        ...

    def size_bytes(self, packed: Any) -> int:
        """Return what that form takes."""
        ...

    def apply(self, x: Tensor, packed: Any, bias: Tensor | None) -> Tensor:
        """x [M, K] -> x W^T + bias [M, N]."""
        ...

    def apply_gated(self, x: Tensor, packed: Any, bias: Tensor | None, silu_mul: SiluMul) -> Tensor:
        """x [M, K] -> silu_mul(x W^T + bias) [M, N / 2], in one pass where the method has one."""
        ...

    def score(self, x: Tensor, packed: Any) -> Tensor:
        """x [M, K] -> x W^T [M, N] in float32, as exact as the method has it."""
        ...

    def best(self, x: Tensor, packed: Any) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of `score`, [M], NaN if it has one, and its place [M], the
        first of equals."""
        ...

    def look_up(self, packed: Any) -> LookUp | None:
        """Return what looks up rows of a weight; None if this form does not keep them apart."""
        ...
