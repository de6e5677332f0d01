"""How many prompt tokens a step may run beside streams that wait for their next token.

A step's time is taken as that of its one-token sequences and a share for each prompt token; both
are measured as the steps go by. Kept by the lead, who alone knows the time: what it decides reaches
the other ranks as the plan.
"""

from backend.step import StepPlan

# Of each new measurement; the machine is shared, a single step says little.
WEIGHT = 0.2
# Prompts always move: by a block or so, and for half the time that the streams take. With less a
# machine that is too slow for the target would never get its batch filled.
MIN_PROMPT_TOKENS = 32
MIN_SHARE = 0.5


# Of the streams' time, for the tokens of sequences that were cut off elsewhere or preempted: so the
# gaps of the others stay below three times what they were. Measured on groups of one thread, one
# of which took over a stream; there 32 tokens already take more than three times as long as one.
REBUILT_SHARE = 1.0
MIN_REBUILT_TOKENS = 8


class Pace:
    """Measures steps and turns a time between tokens into a number of prompt tokens."""

    def __init__(self, target_s: float) -> None:
        """target_s: seconds a step with streams in it should take at most; 0 for no bound."""
        self._target_s = target_s
        self._decode_s = 0.0
        self._prompt_token_s = 0.0

    def observe(self, plan: StepPlan, seconds: float) -> None:
        """Note how long a step took."""
        prompt_tokens = plan.num_tokens - plan.num_decodes
        if prompt_tokens == 0:
            self._decode_s = _smooth(self._decode_s, seconds)
            return
        streams_s = self._decode_s if plan.num_decodes else 0.0
        share = max(0.0, seconds - streams_s) / prompt_tokens
        self._prompt_token_s = _smooth(self._prompt_token_s, share)

    @property
    def prompt_tokens(self) -> int | None:
        """Prompt tokens for a step that streams wait for; None where nothing bounds them."""
        if not self._target_s or not self._prompt_token_s:
            return None
        left_s = max(self._target_s - self._decode_s, MIN_SHARE * self._decode_s)
        return max(MIN_PROMPT_TOKENS, int(left_s / self._prompt_token_s))

    @property
    def recompute_tokens(self) -> int | None:
        """The same for a step that computes a sequence again."""
        if (most := self.prompt_tokens) is None:
            return None
        few = int(REBUILT_SHARE * self._decode_s / self._prompt_token_s)
        return min(most, max(MIN_REBUILT_TOKENS, few))


def _smooth(old: float, new: float) -> float:
    return old + WEIGHT * (new - old) if old else new
