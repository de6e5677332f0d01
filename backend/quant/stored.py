"""A weight of a checkpoint, and how it gets into groups."""

from typing import Protocol

from torch import Tensor

from backend.quant.quantized_weight import GROUP_SIZE, QuantizedWeight, quantize, quantize_int8


class StoredWeight(Protocol):
    """A weight [N, K] of a checkpoint, read in the form that is asked for."""

    def read(self) -> Tensor:
        """Return it in the arithmetic's dtype. The caller owns it."""
        ...

    def read_quantized(self) -> QuantizedWeight | None:
        """Return it as the file holds it, in groups of few bits; None if it does not."""
        ...


def round_to_bits(stored: StoredWeight, bits: int) -> QuantizedWeight | None:
    """Return a weight in groups of 4 or 8 bits: the file's, if they are not of more, else rounded.

    None where the width is no multiple of GROUP_SIZE.
    """
    groups = stored.read_quantized()
    if groups is not None and groups.bits <= bits:
        return groups
    weight = stored.read()
    if weight.shape[1] % GROUP_SIZE:
        return None
    return quantize(weight) if bits == 4 else quantize_int8(weight)
