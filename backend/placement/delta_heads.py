"""Which heads of a gated delta net each rank has. Pure arithmetic, no torch."""

import itertools
import math

from backend.config.errors import ModelError
from backend.config.spec import DeltaNet


def split_value_heads(delta: DeltaNet, num_ranks: int, columns: int) -> list[slice]:
    """Share out the value heads, as evenly as they come, in the order of the file.

    columns: those of the way out that the file quantises together; no rank gets a part of them if
    there are enough for all. Value heads that are neighbours stay with their key head. Raises
    ModelError where some rank would have none.
    """
    least = 1 if delta.are_keys_shared else delta.values_per_key
    wanted = math.lcm(least, columns // math.gcd(columns, delta.value_dim))
    count = delta.num_value_heads
    unit = wanted if count % wanted == 0 and count // wanted >= num_ranks else least
    if count // unit < num_ranks:
        raise ModelError(
            f"--tp {num_ranks} is more than {delta.num_key_heads} key heads and "
            f"{count} value heads of a delta net can be cut into"
        )
    ends = [unit * (count // unit * rank // num_ranks) for rank in range(num_ranks + 1)]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def key_heads_of(delta: DeltaNet, values: slice) -> slice:
    """Return the key heads that a rank needs for its value heads.

    Where those of one key head lie apart, it is all: each rank computes them.
    """
    if delta.are_keys_shared:
        return slice(0, delta.num_key_heads)
    return slice(values.start // delta.values_per_key, values.stop // delta.values_per_key)
