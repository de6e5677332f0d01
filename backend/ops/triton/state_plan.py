"""Which tokens of a step run one by one through layers' states, and which in chunks."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from backend.ops.batch import StateBatch
from backend.ops.upload import upload

# Tokens of a chunk: as few as products take. Of 32, compiled for 9.0, a thread put 2,272 bytes of
# the delta rule's numbers and 896 of Mamba-2's beside its registers; of 16 these are 400 and 136.
CHUNK = 16


class StatePlan(NamedTuple):
    """num_single: sequences of one token, which come first; num_more: of the others. chunks: [n, 3]
    int32 on the device, of those: the first token, where its segment ends, whose it is."""

    num_single: int
    num_more: int
    chunks: Tensor

    @classmethod
    def of(cls, states: StateBatch) -> "StatePlan":
        """Return a step's, made once."""
        if states.plan is None:
            states.plan = cls._new(states)
        plan: StatePlan = states.plan
        return plan

    @classmethod
    def _new(cls, states: StateBatch) -> "StatePlan":
        starts, chains = states.start_list, states.chain_list
        lens = [starts[end] - starts[first] for first, end in pairwise(chains)]
        num_single = next((s for s, length in enumerate(lens) if length != 1), len(lens))
        chunks = [
            (token, starts[segment + 1], sequence)
            for sequence in range(num_single, len(lens))
            for segment in range(chains[sequence], chains[sequence + 1])
            for token in range(starts[segment], starts[segment + 1], CHUNK)
        ]
        device = states.starts.device
        placed = (
            upload(chunks, device)
            if chunks
            else torch.empty(0, 3, dtype=torch.int32, device=device)
        )
        return cls(num_single, len(lens) - num_single, placed)
