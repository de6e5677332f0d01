"""Where what a call of the kernels in C reads and writes lies."""

from torch import Tensor


def address_of(tensor: Tensor | None) -> int | None:
    """Return the address of a tensor's first number; None, which is NULL there, of none."""
    return None if tensor is None else tensor.data_ptr()
