"""A layout: how many ranks compute a model, and what each group of them shares."""

from typing import NamedTuple


class Layout(NamedTuple):
    """tp: ranks that share one copy of the model, or of a stage's layers; dp: such groups. pp:
    stages of a group; nodes: that these are on, as many on each."""

    tp: int
    dp: int = 1
    pp: int = 1
    nodes: int = 1

    @property
    def stage_nodes(self) -> int:
        """Nodes that the ranks of one stage are on: more than one sum over the network."""
        return max(1, self.nodes // self.pp)

    @property
    def num_ranks(self) -> int:
        """Ranks of all groups."""
        return self.tp * self.pp * self.dp

    def __str__(self) -> str:
        stages = f" x PP {self.pp}" if self.pp > 1 else ""
        return f"TP {self.tp}{stages} x DP {self.dp}"
