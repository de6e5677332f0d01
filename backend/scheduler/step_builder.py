"""From the scheduler's decision to a StepPlan: which tokens of each sequence, scored and sampled.

Reads sequences, changes nothing of theirs. A settled one runs its newest token, is sampled and has
nothing to score: it is seen in columns only, the others are looked at one by one.
"""

import itertools
from collections.abc import Sequence as ListLike

import numpy as np

from backend.scheduler.block_tables import Rows
from backend.scheduler.sequence import Sequence
from backend.step import Join, Scores, StepColumns, StepPlan, build_columns


def plan_step(
    step: int, chunks: dict[Sequence, int], joins: ListLike[Join], rows: Rows
) -> tuple[StepPlan, list[Sequence]]:
    """Plan the next tokens of each sequence; those that run one come first.

    chunks: sequence -> how many. Returns also the sequences that are sampled, in the order of the
    plan's samples.
    """
    sequences, counts = list(chunks), list(chunks.values())
    others = [n for n, seq in enumerate(sequences) if not seq.is_settled]
    is_sampled = np.ones(len(sequences), np.bool_)
    for n in others:
        is_sampled[n] = sequences[n].samples(counts[n])
    samples = is_sampled.nonzero()[0]
    starts = np.array([seq.num_computed_tokens for seq in sequences], np.int32)
    lens = np.array(counts, np.int32)
    ends = starts + lens
    lines = np.array([seq.row for seq in sequences], np.int32)
    shares = StepColumns(
        _token_ids(sequences, counts),
        starts,
        lens,
        rows.tables(lines, int(ends.max())),
        samples,
        lines[samples],
        (ends - rows.prompt_lens(lines))[samples],
        _scores(sequences, counts, others),
    )
    plan = build_columns(step, shares, joins, rows.block_size)
    return plan, list(itertools.compress(sequences, is_sampled.tolist()))


def _token_ids(sequences: list[Sequence], counts: list[int]) -> list[int]:
    num_single = counts.count(1)
    token_ids = [seq.token_ids[seq.num_computed_tokens] for seq in sequences[:num_single]]
    for seq, count in zip(sequences[num_single:], counts[num_single:], strict=True):
        token_ids += seq.token_ids[seq.num_computed_tokens : seq.num_computed_tokens + count]
    return token_ids


def _scores(sequences: list[Sequence], counts: list[int], others: list[int]) -> Scores:
    """Return what is to be scored of prompts; almost always nothing."""
    scores = Scores()
    for n in others:
        seq = sequences[n]
        if due := seq.scores_due(counts[n]):
            offset = sum(counts[:n]) - seq.num_computed_tokens
            scores.tokens += range(due.start + offset, due.stop + offset)
            scores.targets += seq.token_ids[due.start + 1 : due.stop + 1]
            scores.counts += [seq.params.prompt_logprobs or 0] * len(due)
    return scores
