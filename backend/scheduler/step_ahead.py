"""A step whose tokens are still to come, while the one after it is planned.

What a step computes is known when it is launched; which tokens it draws is not. Until they are, a
sequence's newest token is its row's, -1 - row: a plan says so, and ranks take the token from where
they drew it. Knows sequences, not whose turn it is. Called by the scheduler.
"""

from typing import NamedTuple

from backend.scheduler.block_tables import BlockTables
from backend.scheduler.prefix_cache import PrefixCache
from backend.scheduler.sequence import Sequence
from backend.step import StepPlan


class Share(NamedTuple):
    """What a sequence is to get of a step: whether a token, and how many scores of its prompt."""

    is_sampled: bool
    num_scored: int


class StepAhead(NamedTuple):
    """The step, and its sequences in the plan's order."""

    step: int
    sequences: list[tuple[Sequence, Share]]


def shares_of(plan: StepPlan) -> list[Share]:
    """Return the share of each sequence of a plan."""
    sampled, scored = (
        tokens.searchsorted(plan.query_starts)
        for tokens in (plan.sample_tokens, plan.logprob_tokens)
    )
    ends = zip(sampled[:-1], sampled[1:], scored[:-1], scored[1:], strict=True)
    return [Share(bool(end - start), int(last - first)) for start, end, first, last in ends]


def advance_sequence(
    seq: Sequence, share: Share, tables: BlockTables, prefixes: PrefixCache
) -> None:
    """Take what the step at hand runs of a sequence for computed, and its token for drawn.

    Blocks that the step fills may be shared at once, and those behind a window be given away:
    whoever reads or overwrites them does so in a later step. All of its tokens must be known.
    """
    before, count = seq.num_computed_tokens, seq.num_scheduled
    seq.num_scheduled = 0
    seq.num_prompt_logprobs += share.num_scored
    seq.num_computed_tokens = before + count
    if share.is_sampled:
        seq.token_ids.append(-1 - seq.row)
    prefixes.remember(seq, before)
    tables.trim(seq)
    seq.is_decoding = share.is_sampled and count == 1


def has_unknown_token(seq: Sequence) -> bool:
    """Whether a sequence's newest token is still to come."""
    return seq.token_ids[-1] < 0
