"""How rows are sampled, on the device."""

from typing import NamedTuple

from torch import Tensor


class RowSettings(NamedTuple):
    """How each row of a table of R is sampled, all [R].

    temperature: float64, 0 is greedy, below 0 are rows at fault. top_k: int64, 0 keeps all; top_p,
    min_p: float64. seeds, choices: int64, of the key of a draw.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seeds: Tensor
    choices: Tensor
