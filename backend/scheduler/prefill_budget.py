"""How many tokens of prefills a step may run beside sequences that wait for their next token.

A step's time is taken as that of its decodes and a share for each prefill token; both are measured
as the steps go by. Kept by the lead, who alone knows the time: what it decides reaches the other
ranks as the plan.
"""

from typing import NamedTuple

from backend.step import StepPlan

# How much each new measurement counts; the machine is shared, a single step says little.
WEIGHT = 0.2
# Prefills always move: by a block or so, and for half the time that the decodes take. With less a
# machine that is too slow for the target would never get its batch filled.
MIN_PREFILL_TOKENS = 32
MIN_SHARE = 0.5
# Tokens of sequences that were cut off elsewhere or preempted get so much of the decodes' time, and
# the gaps of the others stay below three times what they were. Measured on groups of one thread,
# one of which took over a sequence; there 32 tokens already take more than three times as long as
# one.
RECOMPUTE_SHARE = 1.0
MIN_RECOMPUTE_TOKENS = 8


class PrefillLimit(NamedTuple):
    """How many tokens of prefills a step runs beside decodes, at most; None for any number.

    usual: as a rule. recompute: while a sequence that has had tokens is computed again.
    """

    usual: int | None = None
    recompute: int | None = None


class PrefillBudget:
    """Measures steps and turns a time between tokens into a number of prefill tokens."""

    def __init__(self, target_s: float) -> None:
        """target_s: seconds a step with streams in it should take at most; 0 for no bound."""
        self._target_s = target_s
        self._decode_s = 0.0
        self._prefill_token_s = 0.0

    def observe(self, plan: StepPlan, seconds: float) -> None:
        """Note how long a step took."""
        prefill_tokens = plan.num_tokens - plan.num_decodes + len(plan.encoder_ids)
        if prefill_tokens == 0:
            self._decode_s = _smooth(self._decode_s, seconds)
            return
        decodes_s = self._decode_s if plan.num_decodes else 0.0
        share = max(0.0, seconds - decodes_s) / prefill_tokens
        self._prefill_token_s = _smooth(self._prefill_token_s, share)

    @property
    def limit(self) -> PrefillLimit:
        """The limit for the next step, should sequences that decode be in it."""
        if not self._target_s or not self._prefill_token_s:
            return PrefillLimit()
        left_s = max(self._target_s - self._decode_s, MIN_SHARE * self._decode_s)
        usual = max(MIN_PREFILL_TOKENS, int(left_s / self._prefill_token_s))
        few = int(RECOMPUTE_SHARE * self._decode_s / self._prefill_token_s)
        return PrefillLimit(usual, min(usual, max(MIN_RECOMPUTE_TOKENS, few)))


def _smooth(old: float, new: float) -> float:
    return old + WEIGHT * (new - old) if old else new
