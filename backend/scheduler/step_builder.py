"""From the scheduler's decision to a StepPlan: which tokens of each sequence, scored and sampled.

Reads sequences, changes nothing of theirs. A decode runs its newest token, is sampled and has no
prompt to score: decodes are seen in columns only, prefills are looked at one by one.
"""

from collections.abc import Sequence as ListLike

import numpy as np

from backend.scheduler.batch_policy import Selection
from backend.scheduler.block_tables import BlockTables
from backend.scheduler.sequence import Sequence
from backend.step import (
    CrossColumns,
    Ints,
    Join,
    PromptLogprobs,
    StateColumns,
    StepColumns,
    StepPlan,
    build_columns,
)


def build_step(
    step: int,
    selection: Selection,
    joins: ListLike[Join],
    tables: BlockTables,
    states: StateColumns | None = None,
) -> tuple[StepPlan, list[Sequence]]:
    """Plan the tokens that are scheduled of each sequence; those that run one come first.

    Returns also the sequences that are sampled, in the order of the plan's samples.
    """
    decodes, prefills = selection
    sequences = decodes + prefills
    num_decodes = len(decodes)
    sampled = list(range(num_decodes))
    sampled += [num_decodes + n for n, seq in enumerate(prefills) if seq.is_sampled]
    samples = np.array(sampled, np.intp)
    starts = np.array([seq.num_computed_tokens for seq in sequences], np.int32)
    lens = np.ones(len(sequences), np.int32)
    lens[num_decodes:] = [seq.num_scheduled for seq in prefills]
    ends = starts + lens
    rows = np.array([seq.row for seq in sequences], np.int32)
    columns = StepColumns(
        _token_ids(decodes, prefills),
        starts,
        lens,
        tables.tables(rows, int(ends.max())),
        samples,
        rows[samples],
        (ends - tables.prompt_lens(rows))[samples],
        _prompt_logprobs(prefills, num_decodes),
        _cross(sequences, rows, tables),
        states,
    )
    plan = build_columns(step, columns, joins, tables.block_size)
    if len(sampled) == len(sequences):
        return plan, sequences
    return plan, [sequences[n] for n in sampled]


def _cross(sequences: list[Sequence], rows: Ints, tables: BlockTables) -> CrossColumns | None:
    """Return what sequences attend to of encoders; a model has one for all of them or none."""
    if not sequences[0].encoder_ids:
        return None
    encoded = [n for n, seq in enumerate(sequences) if seq.num_unencoded_tokens]
    inputs = [sequences[n].encoder_ids for n in encoded]
    return CrossColumns(*tables.cross(rows), encoded, inputs)


def _token_ids(decodes: list[Sequence], prefills: list[Sequence]) -> list[int]:
    token_ids = [seq.token_ids[-1] for seq in decodes]
    for seq in prefills:
        start = seq.num_computed_tokens
        token_ids += seq.token_ids[start : start + seq.num_scheduled]
    return token_ids


def _prompt_logprobs(prefills: list[Sequence], num_before: int) -> PromptLogprobs:
    """Return what is to be scored of prompts; almost always nothing.

    num_before: tokens of the step before those of the first prefill.
    """
    wanted = PromptLogprobs()
    for seq in prefills:
        if due := seq.logprobs_due():
            offset = num_before - seq.num_computed_tokens
            wanted.tokens += range(due.start + offset, due.stop + offset)
            wanted.targets += seq.token_ids[due.start + 1 : due.stop + 1]
            wanted.counts += [seq.params.prompt_logprobs or 0] * len(due)
        num_before += seq.num_scheduled
    return wanted
