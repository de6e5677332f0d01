"""Logits processors: one function for each sampling parameter, applied in one order.

    bias, allowed tokens, minimum length, bad words, grammar   then
    repetition, presence and frequency penalties, n-grams      then temperature and the draw

A processor takes all rows that use it at once and costs nothing for those that do not. Every rank
holds the state of every row and changes only its own part of the vocabulary, [N, tokens] from
`offset`.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.ops.token_masks import apply_masks
from backend.wire.sampling import SamplingParams

Ids = NDArray[np.int64]
Tokens = NDArray[np.int32]


@dataclass(slots=True)
class RowState:
    """What the processors know of one row; grows by a token at a time, never recomputed.

    token_ids: prompt and output, kept only if a processor looks back. seen: the distinct among
    them. output_ids, output_counts: distinct output tokens and how often each came. ngrams: (n -
    1)-gram -> the tokens that have followed it. is_faulty: nothing of it holds.
    """

    params: SamplingParams
    num_prompt_tokens: int = 0
    token_ids: "array[int]" = field(default_factory=lambda: array("q"))
    seen: "array[int]" = field(default_factory=lambda: array("q"))
    output_ids: "array[int]" = field(default_factory=lambda: array("q"))
    output_counts: "array[int]" = field(default_factory=lambda: array("q"))
    ngrams: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    is_faulty: bool = False
    _is_seen: set[int] = field(default_factory=set)
    _place: dict[int, int] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, params: SamplingParams, token_ids: Iterable[int], num_prompt_tokens: int
    ) -> "RowState":
        """Start from a history."""
        state = cls(params, num_prompt_tokens)
        if params.looks_back:
            for token_id in token_ids:
                state.append(token_id)
        return state

    def catch_up(self, input_ids: Tokens, positions: Tokens, at: int) -> None:
        """Note the token that a step runs at `at`, if it was drawn since.

        What the lead has put into the plan counts, whatever this rank drew.
        """
        if self.is_faulty:
            raise ValueError("the row's history could not be read")
        if self.params.looks_back and len(self.token_ids) == positions[at]:
            self.append(int(input_ids[at]))

    def append(self, token_id: int) -> None:
        """Note one more token."""
        if not self.params.looks_back:
            return
        self.token_ids.append(token_id)
        if token_id not in self._is_seen:
            self._is_seen.add(token_id)
            self.seen.append(token_id)
        if len(self.token_ids) > self.num_prompt_tokens:
            self._count_output(token_id)
        size = self.params.no_repeat_ngram_size
        if size and len(self.token_ids) >= size:
            *prefix, last = self.token_ids[-size:]
            self.ngrams.setdefault(tuple(prefix), []).append(last)

    def _count_output(self, token_id: int) -> None:
        place = self._place.setdefault(token_id, len(self.output_ids))
        if place == len(self.output_ids):
            self.output_ids.append(token_id)
            self.output_counts.append(0)
        self.output_counts[place] += 1

    def ends_with(self, token_ids: Sequence[int]) -> bool:
        """Whether these are the last tokens so far."""
        return not token_ids or self.token_ids[-len(token_ids) :].tolist() == list(token_ids)


Rows = Sequence[RowState]


def apply_logits_processors(
    logits: Tensor,
    rows: Rows,
    positions: Sequence[int],
    offset: int,
    eos_token_ids: Sequence[int],
    masks: "tuple[Ids, NDArray[np.int32]] | None",
) -> None:
    """Apply all processors in order, in place.

    logits: [N, tokens] float32. rows: of each logits row. positions: output position of each.
    masks: (rows with a grammar [M], allowed tokens [M, W] packed, over the whole vocabulary).
    """
    add_bias(logits, rows, offset)
    allow_tokens(logits, rows, offset)
    min_tokens(logits, rows, positions, offset, eos_token_ids)
    bad_words(logits, rows, offset)
    if masks is not None:
        apply_masks(logits, *masks, offset)
    penalise_repetition(logits, rows, offset)
    penalise_output(logits, rows, offset)
    ban_ngrams(logits, rows, offset)


def add_bias(logits: Tensor, rows: Rows, offset: int) -> None:
    """Add its bias to each token of logit_bias (OpenAI API reference, `logit_bias`)."""
    at, values = [], []
    for n, row in enumerate(rows):
        if row.params.logit_bias:
            ids, biases = zip(*row.params.logit_bias, strict=True)
            at.append((n, np.array(ids, np.int64)))
            values.append(np.array(biases, np.float32))
    if at:
        places, own = _places(logits, at, offset)
        biases_here = torch.from_numpy(np.concatenate(values)[own]).to(logits.device)
        logits.index_put_(places, biases_here, accumulate=True)


def allow_tokens(logits: Tensor, rows: Rows, offset: int) -> None:
    """Set -inf for every token that is not one of allowed_token_ids."""
    at = [
        (n, np.array(row.params.allowed_token_ids, np.int64))
        for n, row in enumerate(rows)
        if row.params.allowed_token_ids is not None
    ]
    if at:
        places, _ = _places(logits, at, offset)
        kept = logits[places]
        logits[torch.tensor([n for n, _ in at], device=logits.device)] = -torch.inf
        logits[places] = kept


def min_tokens(
    logits: Tensor,
    rows: Rows,
    positions: Sequence[int],
    offset: int,
    eos_token_ids: Sequence[int],
) -> None:
    """Set -inf for tokens that would end the sequence before min_tokens (MinNewTokensLength)."""
    at = []
    for n, (row, position) in enumerate(zip(rows, positions, strict=True)):
        if position < row.params.min_tokens:
            ends = () if row.params.ignore_eos else eos_token_ids
            at.append((n, np.array([*ends, *row.params.stop_token_ids], np.int64)))
    _ban(logits, at, offset)


def bad_words(logits: Tensor, rows: Rows, offset: int) -> None:
    """Set -inf for a token that would complete one of bad_words (NoBadWords)."""
    at = []
    for n, row in enumerate(rows):
        if row.params.bad_words:
            last = [word[-1] for word in row.params.bad_words if row.ends_with(word[:-1])]
            at.append((n, np.array(last, np.int64)))
    _ban(logits, at, offset)


def penalise_repetition(logits: Tensor, rows: Rows, offset: int) -> None:
    """Take logit / p if positive, logit * p if not, for tokens of prompt and output (Keskar et al.
    2019, CTRL, section 4.1)."""
    at, penalties = [], []
    for n, row in enumerate(rows):
        if row.params.repetition_penalty != 1 and row.seen:
            at.append((n, np.array(row.seen)))
            penalties.append(row.params.repetition_penalty)
    if at:
        places, own = _places(logits, at, offset)
        values = np.repeat(np.array(penalties, np.float32), [len(ids) for _, ids in at])
        penalty = torch.from_numpy(values[own]).to(logits.device)
        old = logits[places]
        logits[places] = torch.where(old > 0, old / penalty, old * penalty)


def penalise_output(logits: Tensor, rows: Rows, offset: int) -> None:
    """Take logit - count * frequency_penalty - (count > 0) * presence_penalty, over output tokens
    (OpenAI API reference, "Frequency and presence penalties")."""
    at, values = [], []
    for n, row in enumerate(rows):
        frequency, presence = row.params.frequency_penalty, row.params.presence_penalty
        if (frequency or presence) and row.output_ids:
            at.append((n, np.array(row.output_ids)))
            values.append(np.array(row.output_counts) * frequency + presence)
    if at:
        places, own = _places(logits, at, offset)
        penalty = torch.from_numpy(np.concatenate(values)[own].astype(np.float32))
        logits[places] -= penalty.to(logits.device)


def ban_ngrams(logits: Tensor, rows: Rows, offset: int) -> None:
    """Set -inf for a token that would repeat an n-gram of prompt and output (Paulus et al.
    2017)."""
    at = []
    for n, row in enumerate(rows):
        size = row.params.no_repeat_ngram_size
        if size and len(row.token_ids) >= size:
            prefix = tuple(row.token_ids[len(row.token_ids) - size + 1 :])
            at.append((n, np.array(row.ngrams.get(prefix, []), np.int64)))
    _ban(logits, at, offset)


def _ban(logits: Tensor, at: list[tuple[int, Ids]], offset: int) -> None:
    at = [(n, ids) for n, ids in at if len(ids)]
    if at:
        logits[_places(logits, at, offset)[0]] = -torch.inf


def _places(
    logits: Tensor, at: list[tuple[int, Ids]], offset: int
) -> tuple[tuple[Tensor, Tensor], NDArray[np.bool_]]:
    """Turn (row, token ids) pairs into an index of logits, of this rank's tokens only.

    Also returns which of the ids, in order, are this rank's.
    """
    ids = np.concatenate([ids for _, ids in at]) - offset
    rows = np.repeat([n for n, _ in at], [len(ids) for _, ids in at])
    own = (ids >= 0) & (ids < logits.shape[1])
    device = logits.device
    return (
        torch.from_numpy(rows[own]).to(device),
        torch.from_numpy(ids[own]).to(device),
    ), own
