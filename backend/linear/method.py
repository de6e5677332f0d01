"""How a rank keeps the weights of a model, and who multiplies by each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from backend.linear.kernel import Gating, LinearKernel
from backend.quant.kept_weights import Quantization, kept_format
from backend.quant.quantized_weight import QuantizedWeight, concatenate
from backend.quant.stored import StoredWeight, read_in
from backend.quant.weight_format import WeightFormat

CPU = torch.device("cpu")


class PackedWeight(NamedTuple):
    """A weight [N, K] as its kernel takes it. order: of its columns (quant/column_order.py), int32
    on the device, if it is another than x has."""

    kernel: LinearKernel[Any, Any]
    data: Any
    num_features: int
    order: Tensor | None = None

    @property
    def size_bytes(self) -> int:
        order_bytes = 0 if self.order is None else self.order.nbytes
        return self.kernel.size_bytes(self.data) + order_bytes

    def apply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + bias, [M, N]."""
        return self.kernel.apply(self._take(x), self.data, bias)

    def apply_into(self, x: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Write x W^T + bias to out, [M, N], whose rows may lie apart."""
        self.kernel.apply_into(self._take(x), self.data, bias, out)

    def apply_gated(self, x: Tensor, bias: Tensor | None, gating: Gating) -> Tensor:
        """The first half of x W^T + bias gates the second, [M, N / 2]."""
        return self.kernel.apply_gated(self._take(x), self.data, bias, gating)

    def logits(self, x: Tensor) -> Tensor:
        """x W^T in float32, [M, N]."""
        return self.kernel.logits(self._take(x), self.data)

    def argmax(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest of each row of logits, [M], NaN if it has one, and its place, [M]."""
        return self.kernel.argmax(self._take(x), self.data)

    @property
    def embeds(self) -> bool:
        """Whether rows can be looked up in it."""
        return self.kernel.embeds and self.order is None

    def embed(self, ids: Tensor) -> Tensor:
        """Return rows of the weight, [T] -> [T, K]."""
        assert self.order is None
        return self.kernel.embed(self.data, ids)

    def _take(self, x: Tensor) -> Tensor:
        return x if self.order is None else self.kernel.take_columns(x, self.order)


@dataclass(frozen=True, slots=True)
class StackedWeight:
    """Weights of several formats, one above the other: each multiplies into its columns."""

    parts: list[PackedWeight]

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)

    @property
    def num_features(self) -> int:
        return sum(part.num_features for part in self.parts)

    def apply(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + bias, [M, N]."""
        if len(self.parts) == 1:
            return self.parts[0].apply(x, bias)
        out = torch.empty(len(x), self.num_features, dtype=x.dtype, device=x.device)
        self.apply_into(x, bias, out)
        return out

    def apply_into(self, x: Tensor, bias: Tensor | None, out: Tensor) -> None:
        """Write x W^T + bias to out, [M, N], whose rows may lie apart."""
        ends = [0, *accumulate(part.num_features for part in self.parts)]
        for part, (start, end) in zip(self.parts, pairwise(ends), strict=True):
            own_bias = None if bias is None else bias[start:end]
            part.apply_into(x, own_bias, out[:, start:end])

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
        device: torch.device = CPU,
    ) -> None:
        """kernels: by format, dense weights' among them. device: theirs.

        quantization: "auto" keeps the file's formats, "none" makes every weight dense, the others
        round weights that the file has in more bits.
        """
        self._quantization = quantization
        self._kernels = kernels
        self._device = device

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
        return self.stacks([stored])[0]

    def stacks(self, weights: Sequence[Sequence[StoredWeight]]) -> list[StackedWeight]:
        """Return stacks of one shape, such as experts' projections: all are cut alike into parts of
        one format, those of each neighbours if all stacks have them so."""
        kinds = [[self._kind(part) for part in stored] for stored in weights]
        runs = _common_runs(kinds)
        return [
            StackedWeight([self._pack_run(own[run.start].format, stored[run]) for run in runs])
            for own, stored in zip(kinds, weights, strict=True)
        ]

    def kept_format(self, stored_as: WeightFormat, k: int) -> WeightFormat:
        """Return the format in which a weight of k columns is kept."""
        return kept_format(self._quantization, self._kernels, stored_as, k)

    def embeds(self, stored_as: WeightFormat, k: int) -> bool:
        """Whether rows can be looked up in a weight that is packed."""
        return self._kernels[self.kept_format(stored_as, k)].embeds

    def _kind(self, stored: StoredWeight) -> "_Kind":
        wanted = self.kept_format(stored.format, stored.shape[1])
        order = _kept_order(stored, wanted)
        return _Kind(wanted, b"" if order is None else order.numpy().tobytes())

    def _pack_run(self, wanted: WeightFormat, run: Sequence[StoredWeight]) -> PackedWeight:
        """Return neighbours of one kind."""
        weights = [read_in(part, wanted, self._device) for part in run]
        return self._pack(wanted, weights, _kept_order(run[0], wanted))

    def _pack(
        self,
        weight_format: WeightFormat,
        weights: Sequence[Tensor | QuantizedWeight],
        order: Tensor | None = None,
    ) -> PackedWeight:
        kernel = self._kernels[weight_format]
        whole = _concatenate(weights)
        if order is not None:
            order = order.to(self._device)
        return PackedWeight(kernel, kernel.pack(whole), whole.shape[0], order)


class _Kind(NamedTuple):
    """What neighbours have alike that are one weight. order: of the columns, b"" if as in x."""

    format: WeightFormat
    order: bytes


def _common_runs(kinds: Sequence[Sequence[_Kind]]) -> list[slice]:
    """Return the longest runs of one kind in every stack."""
    num = len(kinds[0])
    starts = [n for n in range(1, num) if any(own[n - 1] != own[n] for own in kinds)]
    return [slice(*pair) for pair in pairwise([0, *starts, num])]


def _kept_order(stored: StoredWeight, wanted: WeightFormat) -> Tensor | None:
    """Return the order of a weight's columns in a format: what is not read in blocks has none."""
    is_read = wanted is stored.format and wanted is not WeightFormat.DENSE
    return stored.order if is_read else None


def _concatenate(weights: Sequence[Tensor | QuantizedWeight]) -> Tensor | QuantizedWeight:
    if len(weights) == 1:
        return weights[0]
    if quantized := [weight for weight in weights if isinstance(weight, QuantizedWeight)]:
        return concatenate(quantized)
    return torch.cat([weight for weight in weights if isinstance(weight, Tensor)])
