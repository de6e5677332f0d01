"""How a rank keeps the weights of a model, and who multiplies by each of them."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor

from backend.linear.kernel import Embed, LinearKernel, SiluMul, WeightFootprint
from backend.quant.quantized_weight import GROUP_SIZE, QuantizedWeight
from backend.quant.stored import StoredWeight, round_to_bits
from backend.quant.weight_format import WeightFormat

Quantization = Literal["auto", "none", "int4", "int8"]
_BITS = {"int4": 4, "int8": 8}


class PackedWeight(NamedTuple):
    """A weight as its kernel takes it."""

    kernel: LinearKernel[Any, Any]
    data: Any

    @property
    def size_bytes(self) -> int:
        return self.kernel.size_bytes(self.data)

    def apply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + bias, [M, N]."""
        return self.kernel.apply(x, self.data, bias)

    def apply_swiglu(self, x: Tensor, bias: Tensor | None, silu_mul: SiluMul) -> Tensor:
        """silu_mul(x W^T + bias), [M, N / 2]."""
        return self.kernel.apply_swiglu(x, self.data, bias, silu_mul)

    def logits(self, x: Tensor) -> Tensor:
        """x W^T in float32, [M, N]."""
        return self.kernel.logits(x, self.data)

    def argmax(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of logits, [M], NaN if it has one, and its place, [M]."""
        return self.kernel.argmax(x, self.data)

    def embed(self) -> Embed | None:
        """Return what looks up rows of the weight, if its form keeps them apart."""
        return self.kernel.embed(self.data)


class LinearMethod:
    """Packs every weight in the format that it is to have, for the kernel of that format."""

    def __init__(
        self,
        quantization: Quantization,
        kernels: Mapping[WeightFormat, LinearKernel[Any, Any]],
        plain: LinearKernel[Tensor, Any],
    ) -> None:
        """kernels: by format, dense weights' among them. plain: has the dense weights that their
        kernel does not take.

        quantization: "auto" keeps the file's formats, "none" makes every weight dense, the others
        round weights that the file has in more bits.
        """
        self._quantization = quantization
        self._kernels = kernels
        self._plain = plain

    def pack(self, stored: StoredWeight) -> PackedWeight:
        """Return a weight [N, K], packed."""
        quantized = self._quantized(stored)
        if quantized is not None and quantized.format in self._kernels:
            kernel = self._kernels[quantized.format]
            if kernel.takes(*quantized.values.shape):
                return PackedWeight(kernel, kernel.pack(quantized))
        weight = stored.read()
        kernel = self._dense_kernel(*weight.shape)
        return PackedWeight(kernel, kernel.pack(weight))

    def footprint(self, stored_as: WeightFormat, n: int, k: int) -> WeightFootprint:
        """Return what pack() keeps of a weight [n, k] that the file has in a format."""
        wanted = self._format(stored_as, k)
        kernel = self._kernels.get(wanted)
        if wanted is WeightFormat.DENSE or kernel is None or not kernel.takes(n, k):
            kernel = self._dense_kernel(n, k)
        return kernel.footprint(k)

    def _quantized(self, stored: StoredWeight) -> QuantizedWeight | None:
        """Return a weight in groups of few bits; None where it is to be dense."""
        if self._quantization == "none" or self._kernels.keys() <= {WeightFormat.DENSE}:
            return None
        if self._quantization == "auto":
            return stored.read_quantized()
        if WeightFormat.Q8_CHANNEL in self._kernels and self._quantization == "int8":
            return None
        return round_to_bits(stored, _BITS[self._quantization])

    def _format(self, stored_as: WeightFormat, k: int) -> WeightFormat:
        match self._quantization:
            case "none":
                return WeightFormat.DENSE
            case "auto":
                return stored_as
            case _ if k % GROUP_SIZE:
                return WeightFormat.DENSE
            case "int4":
                return WeightFormat.Q4
            case _:
                return WeightFormat.Q4 if stored_as is WeightFormat.Q4 else WeightFormat.Q8

    def _dense_kernel(self, n: int, k: int) -> LinearKernel[Tensor, Any]:
        """Return who multiplies by a weight that is read dense."""
        rounding = self._kernels.get(WeightFormat.Q8_CHANNEL)
        if self._quantization == "int8" and rounding is not None:
            return rounding
        kernel = self._kernels[WeightFormat.DENSE]
        return kernel if kernel.takes(n, k) else self._plain
