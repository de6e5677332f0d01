"""A weight of a checkpoint, and how it gets into a format."""

from typing import Protocol

import torch
from torch import Tensor

from backend.quant.quantized_weight import QuantizedWeight
from backend.quant.rounding import CPU, quantize_int4, quantize_int8
from backend.quant.weight_format import WeightFormat


class StoredWeight(Protocol):
    """A weight [N, K] of a checkpoint, read in the form that is asked for."""

    @property
    def format(self) -> WeightFormat:
        """What read_quantized() gives; DENSE where only read() does."""
        ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def order(self) -> Tensor | None:
        """Which column stands at each place of what read_quantized() gives (column_order.py); None:
        they are in order."""
        ...

    def read(self) -> Tensor:
        """Return it in the arithmetic's dtype. The caller owns it."""
        ...

    def read_quantized(self) -> QuantizedWeight:
        """Return it as the file holds it. It may be a view of the file."""
        ...


def read_in(
    stored: StoredWeight, wanted: WeightFormat, device: torch.device = CPU
) -> Tensor | QuantizedWeight:
    """Return a weight in a format, on the host: as stored, rounded to Q4_1 or Q8_0, or dense.

    device: that rounds.
    """
    if wanted in (WeightFormat.DENSE, WeightFormat.Q8_CHANNEL):
        return stored.read()
    if wanted is stored.format:
        return stored.read_quantized()
    if wanted is WeightFormat.Q4_1:
        return quantize_int4(stored.read(), device)
    if wanted is WeightFormat.Q8_0:
        return quantize_int8(stored.read(), device)
    raise ValueError(f"nothing is rounded to {wanted}")
