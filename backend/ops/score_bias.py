"""What is added to attention's scores by how far apart a query and a key are."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBias:
    """Numbers of each head for a range of distances.

    numbers: [H, n], of the distances least .. least + n - 1, a key's position less its query's;
    beyond either end all are alike.
    """

    numbers: Tensor
    least: int

    @property
    def most(self) -> int:
        """The last distance that has a number of its own."""
        return self.least + self.numbers.shape[1] - 1

    def at(self, distances: Tensor) -> Tensor:
        """[..] int64 -> [H, ..]."""
        return self.numbers[:, distances.clamp(self.least, self.most) - self.least]
