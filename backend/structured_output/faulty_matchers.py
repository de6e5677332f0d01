"""Matchers that fail where a test asks for it; see backend/fault_injection.py."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backend.fault_injection import ADMISSION, GRAMMAR, Faults
from backend.scheduler.sequence import Sequence as Seq
from backend.structured_output.matchers import Matchers


def build_matchers(vocab_size: int, eos_token_ids: Sequence[int], test_faults: str) -> Matchers:
    """Return a group's matchers. test_faults: what to inject; as a rule nothing."""
    if faults := Faults(test_faults):
        return FaultyMatchers(vocab_size, eos_token_ids, faults)
    return Matchers(vocab_size, eos_token_ids)


class FaultyMatchers(Matchers):
    """Strikes requests when they are admitted, and when their grammar's mask is made."""

    def __init__(self, vocab_size: int, eos_token_ids: Sequence[int], faults: Faults) -> None:
        super().__init__(vocab_size, eos_token_ids)
        self._faults = faults

    def add(self, seq: Seq) -> None:
        """Begin a sequence, unless a fault waits for it. Raises InjectedFault too."""
        self._faults.strike(ADMISSION, seq.params)
        super().add(seq)

    def _fill_mask(self, seq: Seq, out: NDArray[np.int32]) -> None:
        self._faults.strike(GRAMMAR, seq.params, seq.num_output_tokens)
        super()._fill_mask(seq, out)
