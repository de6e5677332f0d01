"""How the ranks of a group are numbered: stage after stage, tp of them in each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupShape:
    """pp stages of tp ranks. Rank 0 is the lead; the first of the last stage tells what was drawn.

    local: the ranks that are on this machine, in one run.
    """

    tp: int = 1
    pp: int = 1
    local: range = range(0)

    @classmethod
    def on_one_machine(cls, tp: int, pp: int = 1) -> "GroupShape":
        return cls(tp, pp, range(tp * pp))

    @classmethod
    def part(cls, tp: int, pp: int, nodes: int, index: int) -> "GroupShape":
        """Return a group's shape on one of several machines, which have equally many ranks.

        Either has each machine whole stages, or each stage whole machines.
        """
        each = tp * pp // nodes
        return cls(tp, pp, range(index * each, (index + 1) * each))

    @property
    def is_whole(self) -> bool:
        """Whether all ranks are on this machine."""
        return len(self.local) == self.size

    @property
    def size(self) -> int:
        """Ranks of the group."""
        return self.tp * self.pp

    @property
    def teller(self) -> int:
        """The rank that tells the lead what was drawn; the lead where there is one stage."""
        return (self.pp - 1) * self.tp

    def stage_of(self, rank: int) -> int:
        return rank // self.tp

    def peers(self, rank: int) -> range:
        """The ranks of a rank's stage that are on this machine, itself included."""
        start = self.stage_of(rank) * self.tp
        return range(max(start, self.local.start), min(start + self.tp, self.local.stop))

    def node_leads(self, rank: int) -> range:
        """The first rank on each node of a rank's stage, in order; its own stage's part is as
        large on each of them."""
        start = self.stage_of(rank) * self.tp
        return range(start, start + self.tp, len(self.peers(rank)))

    def before(self, rank: int) -> int | None:
        """The rank of the same place in the stage before."""
        return rank - self.tp if rank >= self.tp else None

    def after(self, rank: int) -> int | None:
        """The rank of the same place in the next stage."""
        return rank + self.tp if rank + self.tp < self.size else None
