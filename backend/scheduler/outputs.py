"""What a step's result means for a sequence: whether it ends, and what its caller is told.

Reads sequences, changes nothing of theirs. Called by the scheduler when a step is committed.
"""

from backend.scheduler.sequence import Sequence
from backend.step import NO_TOKEN
from backend.wire.messages import NO_TOKEN_LEFT, FinishReason, SeqOutput, TokenLogprobs

FAULT = "the request could not be computed: its rules, its grammar or its logits failed"


def end_reason(seq: Sequence, token_id: int) -> FinishReason | None:
    """Return why a sequence ends with this token, its last so far; None if it goes on."""
    if token_id in seq.stop_ids:
        return FinishReason.STOP
    return FinishReason.LENGTH if len(seq.token_ids) >= seq.max_num_tokens else None


def error_output(seq: Sequence, token_id: int) -> SeqOutput:
    """Tell the end of a sequence that got NO_TOKEN or FAULTY."""
    error = NO_TOKEN_LEFT if token_id == NO_TOKEN else FAULT
    return SeqOutput(seq.key[1], [], FinishReason.ERROR, error=error, is_final=True)


def token_output(
    seq: Sequence,
    num_new: int,
    reason: FinishReason | None,
    logprobs: list[TokenLogprobs],
    prompt_logprobs: list[TokenLogprobs],
) -> SeqOutput:
    """Tell a sequence's newest tokens, num_new of them."""
    is_first = len(seq.token_ids) == seq.num_prompt_tokens + num_new
    last = seq.token_ids[-1]
    return SeqOutput(
        seq.key[1],
        seq.token_ids[-num_new:],
        reason,
        seq.num_cached_tokens if is_first else 0,
        logprobs=tuple(logprobs),
        prompt_logprobs=tuple(prompt_logprobs),
        stop_token_id=last if last in seq.params.stop_token_ids else None,
    )
