"""A weight as a checkpoint would have it, for the linear methods."""

from dataclasses import dataclass

from torch import Tensor

from backend.quant.groups import Groups


@dataclass(frozen=True, slots=True)
class Stored:
    """A StoredWeight: `weight`, and the groups it was stored in."""

    weight: Tensor
    groups: Groups | None = None

    def read(self) -> Tensor:
        return self.weight.clone()

    def read_groups(self) -> Groups | None:
        return self.groups
