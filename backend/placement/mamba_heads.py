"""Which heads of a Mamba-2 layer each rank has, and which of their groups. No torch."""

import itertools
import math

from backend.config.errors import ModelError
from backend.config.spec import Mamba2


def split_mamba_heads(mamba: Mamba2, num_ranks: int, columns: int) -> list[slice]:
    """Share out the heads, as evenly as they come: whole groups, where there are enough for all.

    columns: those of the way out that the file quantises together; no rank gets a part of them if
    there are enough for all. Raises ModelError where groups that have a norm would be cut, unless
    there is but one, which all ranks normalise together; or where some rank would have no head.
    """
    if num_ranks > mamba.num_heads:
        raise ModelError(
            f"--tp {num_ranks} is more than {mamba.num_heads} heads of a Mamba-2 layer can be cut "
            "into"
        )
    if mamba.norm != "none" and 1 < mamba.num_groups < num_ranks:
        raise ModelError(
            f"--tp {num_ranks} is more than {mamba.num_groups} groups of heads of a Mamba-2 layer "
            f"can be cut into: each has a norm of its own\nuse 1 to {mamba.num_groups}"
        )
    least = mamba.heads_per_group if mamba.num_groups >= num_ranks else 1
    wanted = math.lcm(least, columns // math.gcd(columns, mamba.head_dim))
    count = mamba.num_heads
    unit = wanted if count % wanted == 0 and count // wanted >= num_ranks else least
    ends = [unit * (count // unit * rank // num_ranks) for rank in range(num_ranks + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def groups_of(mamba: Mamba2, heads: slice) -> slice:
    """Return the groups whose B and C a rank needs for its heads."""
    per_group = mamba.heads_per_group
    return slice(heads.start // per_group, -(-heads.stop // per_group))
