"""What a mixer that keeps a state for each sequence is given in a step."""

from dataclasses import dataclass

from torch import Tensor

from backend.ops.batch import StateBatch


@dataclass(frozen=True, slots=True)
class StateStep:
    """What a layer's state mixer is given in a step.

    states: the layer's, [slots, ..] each, in the order of config/states.py. segments: which slots
    are read and written. wanted: the tokens [n] whose results anyone reads; None for all.
    """

    states: tuple[Tensor, ...]
    segments: StateBatch
    wanted: Tensor | None
