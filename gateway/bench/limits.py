"""What a request must meet to count as good: limits of its latencies. Knows answers, no loads."""

from dataclasses import dataclass

from gateway.bench.client import Answer


@dataclass(frozen=True, slots=True)
class Limits:
    """Service level objectives, in milliseconds; 0 for none.

    ttft_ms: of the time to the first token. itl_ms: of the mean gap between tokens of one answer,
    so that a token that comes late with others behind it is not a fault by itself.
    """

    ttft_ms: float = 0.0
    itl_ms: float = 0.0

    @property
    def are_set(self) -> bool:
        return self.ttft_ms > 0 or self.itl_ms > 0

    def are_met_by(self, answer: Answer) -> bool:
        """Whether an answer came whole and in time. One without text meets no limit."""
        if answer.error or not answer.text_times_s:
            return False
        first_s, last_s = answer.text_times_s[0], answer.text_times_s[-1]
        if self.ttft_ms and 1e3 * (first_s - answer.due_s) > self.ttft_ms:
            return False
        num_gaps = answer.num_tokens - 1
        if not self.itl_ms or num_gaps < 1:
            return True
        return 1e3 * (last_s - first_s) / num_gaps <= self.itl_ms


NO_LIMITS = Limits()
