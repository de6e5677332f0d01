"""How a rank keeps the weights of a model, and who multiplies by each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backend.linear.kernel import Gating, LinearKernel
from backend.quant.kept_weights import Quantization, kept_format
from backend.quant.quantized_weight import QuantizedWeight, concatenate
from backend.quant.stored import StoredWeight, read_in
from backend.quant.weight_format import WeightFormat


class PackedWeight(NamedTuple):
    """A weight [N, K] as its kernel takes it."""

    kernel: LinearKernel[Any, Any]
    data: Any
    num_features: int

    @property
    def size_bytes(self) -> int:
        return self.kernel.size_bytes(self.data)

    def apply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + bias, [M, N]."""
        return self.kernel.apply(x, self.data, bias)

    def apply_into(self, x: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Write x W^T + bias to out, [M, N], whose rows may lie apart."""
        self.kernel.apply_into(x, self.data, bias, out)

    def apply_gated(self, x: Tensor, bias: Tensor | None, gating: Gating) -> Tensor:
        """The first half of x W^T + bias gates the second, [M, N / 2]."""
        return self.kernel.apply_gated(x, self.data, bias, gating)

    def logits(self, x: Tensor) -> Tensor:
        """x W^T in float32, [M, N]."""
        return self.kernel.logits(x, self.data)

    def argmax(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of logits, [M], NaN if it has one, and its place, [M]."""
        return self.kernel.argmax(x, self.data)

    @property
    def embeds(self) -> bool:
        """Whether rows can be looked up in it."""
        return self.kernel.embeds

    def embed(self, ids: Tensor) -> Tensor:
        """Return rows of the weight, [T] -> [T, K]."""
        return self.kernel.embed(self.data, ids)


@dataclass(frozen=True, slots=True)
class StackedWeight:
    """Weights of several formats, one above the other: each multiplies into its columns."""

    parts: list[PackedWeight]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    def apply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + bias, [M, N]."""
        if len(self.parts) == 1:
            return self.parts[0].apply(x, bias)
        ends = [0, *accumulate(part.num_features for part in self.parts)]
        out = torch.empty(len(x), ends[-1], dtype=x.dtype, device=x.device)
        for part, (start, end) in zip(self.parts, pairwise(ends), strict=True):
            own_bias = None if bias is None else bias[start:end]
            part.apply_into(x, own_bias, out[:, start:end])
        return out

    def apply_gated(self, x: Tensor, bias: Tensor | None, gating: Gating) -> Tensor:
        """The same, then the first half gates the second, [M, N / 2]; in one pass where there is
        one format."""
        if len(self.parts) == 1:
            return self.parts[0].apply_gated(x, bias, gating)
        return gating.compute(self.apply(x, bias))


class LinearMethod:
    """Packs every weight in the format that it is to have, for the kernel of that format."""

    def __init__(
        self,
        quantization: Quantization,
        kernels: Mapping[WeightFormat, LinearKernel[Any, Any]],
    ) -> None:
        """kernels: by format, dense weights' among them.

        quantization: "auto" keeps the file's formats, "none" makes every weight dense, the others
        round weights that the file has in more bits.
        """
        self._quantization = quantization
        self._kernels = kernels

    def pack(self, stored: StoredWeight) -> PackedWeight:
        """Return a weight [N, K], packed."""
        return self.stack([stored]).parts[0]

    def pack_dense(self, stored: StoredWeight) -> PackedWeight:
        """Return a weight [N, K] in the dtype of the forward pass, whatever the setting says."""
        return self._pack(WeightFormat.DENSE, [stored.read()])

    def pack_tensor(self, weight: Tensor) -> PackedWeight:
        """Return a weight [N, K] that is no tensor of a file, packed dense."""
        return self._pack(WeightFormat.DENSE, [weight])

    def stack(self, stored: Sequence[StoredWeight]) -> StackedWeight:
        """Return weights of one width, one above the other, packed by format."""
        formats = [self.kept_format(part.format, part.shape[1]) for part in stored]
        parts = []
        for wanted, run in groupby(zip(formats, stored, strict=True), key=lambda pair: pair[0]):
            weights = [read_in(part, wanted) for _, part in run]
            parts.append(self._pack(wanted, weights))
        return StackedWeight(parts)

    def kept_format(self, stored_as: WeightFormat, k: int) -> WeightFormat:
        """Return the format in which a weight of k columns is kept."""
        return kept_format(self._quantization, self._kernels, stored_as, k)

    def embeds(self, stored_as: WeightFormat, k: int) -> bool:
        """Whether rows can be looked up in a weight that is packed."""
        return self._kernels[self.kept_format(stored_as, k)].embeds

    def _pack(
        self, weight_format: WeightFormat, weights: Sequence[Tensor | QuantizedWeight]
    ) -> PackedWeight:
        kernel = self._kernels[weight_format]
        whole = _concatenate(weights)
        return PackedWeight(kernel, kernel.pack(whole), whole.shape[0])


def _concatenate(weights: Sequence[Tensor | QuantizedWeight]) -> Tensor | QuantizedWeight:
    if len(weights) == 1:
        return weights[0]
    if quantized := [weight for weight in weights if isinstance(weight, QuantizedWeight)]:
        return concatenate(quantized)
    return torch.cat([weight for weight in weights if isinstance(weight, Tensor)])
