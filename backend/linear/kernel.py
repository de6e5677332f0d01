"""What multiplies by a weight of one format; registry.py says which serves when."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor

from backend.ops.topk import argmax

# What is packed: a dense weight [N, K], or a QuantizedWeight.
W = TypeVar("W")
# What the kernel makes of it.
P = TypeVar("P")

# [T] -> those rows of a weight, [T, K] in the dtype of the forward pass
Embed = Callable[[Tensor], Tensor]
# silu(gate) * up, see Ops.silu_mul
SiluMul = Callable[[Tensor], Tensor]


class WeightFootprint(NamedTuple):
    """What is kept of a weight.

    is_dense: itself, in the dtype of the forward pass. packed_bits: the bits of each number beside
    that, its share of scale and minimum included. embeds: rows of it can be looked up.
    """

    is_dense: bool
    packed_bits: float
    embeds: bool = False


class LinearKernel(ABC, Generic[W, P]):
    """Packs weights of one format once, then multiplies by them in every step.

    Shapes: x [M, K], a weight [N, K]. Results are in the dtype of x but for logits.
    """

    @abstractmethod
    def takes(self, n: int, k: int) -> bool:
        """Whether the kernel takes a weight [n, k]; a dense one serves where it does not."""

    @abstractmethod
    def pack(self, weight: W) -> P:
        """Return the kernel's form of a weight. The caller gives the weight away."""

    @abstractmethod
    def footprint(self, k: int) -> WeightFootprint:
        """Return what pack() keeps of a weight of k columns."""

    @abstractmethod
    def size_bytes(self, packed: P) -> int:
        """Return what a packed weight takes."""

    @abstractmethod
    def apply(self, x: Tensor, packed: P, bias: Tensor | None) -> Tensor:
        """x W^T + bias, [M, N]."""

    def apply_swiglu(self, x: Tensor, packed: P, bias: Tensor | None, silu_mul: SiluMul) -> Tensor:
        """silu_mul(x W^T + bias), [M, N / 2]; in one pass where the kernel has one."""
        return silu_mul(self.apply(x, packed, bias))

    def logits(self, x: Tensor, packed: P) -> Tensor:
        """x W^T in float32, [M, N], as exact as the kernel has it."""
        return self.apply(x, packed, None).float()

    def argmax(self, x: Tensor, packed: P) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of logits, [M], NaN if it has one, and its place, [M], the
        first of equals."""
        return argmax(self.logits(x, packed))

    def embed(self, packed: P) -> Embed | None:
        """Return what looks up rows of a weight; None if this form does not keep them apart."""
        return None
