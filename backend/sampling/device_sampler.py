"""The sampler of a GPU: from logits to tokens without the host, by the kernels of ops/triton.

Rows join on the host; what they ask for then lies on the device. Between a step's logits and its
tokens nothing is read by the host, and what is launched follows from what the step's rows ask for,
not from numbers. Tokens are those of `Sampler` for the same seeds: Philox's draws are its bits,
selections are exact, and sums are off by 1e-6 of a row's mass at most where a border may fall
otherwise. Ranks gather the logits of rows that ask for more than their best token, [N, V], and draw
alike; the best of the others are chosen from each rank's best.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.ops.triton.draws import draw
from backend.ops.triton.row_settings import RowSettings
from backend.ops.triton.rules import StepTokens, apply_masks, apply_rules
from backend.ops.triton.scores import WORDS, Scores, score
from backend.ops.triton.survey import survey
from backend.ops.upload import upload
from backend.sampling.device_record import Words, record_of
from backend.sampling.draw import Ids
from backend.sampling.sampler import MAX_CANDIDATES, Sampled, Sampler, masks_of
from backend.step import Join, StepPlan
from backend.wire.messages import TokenLogprobs

# Most rows with a top_k have a small one; of others MAX_CANDIDATES are selected.
FEW_CANDIDATES = 32
_AT_FAULT = -1.0
# The columns of a row's settings: those of RowSettings, and the address of its record.
_COLUMNS = ("temperature", "top_k", "top_p", "min_p", "seeds", "choices", "records")
_FLOATS = ("temperature", "top_p", "min_p")

logger = logging.getLogger(__name__)


class Needs(NamedTuple):
    """What the rows of a step ask for, as the host knows it; what is launched follows from it.

    num_best: how many of the best tokens filters look at, 0 where no row has one. has_rules: a row
    has logits processors. scored: of each row how many of the best are scored beside its token,
    None where nothing is; empty if none is. copies: a scored row has processors.
    """

    num_best: int
    has_rules: bool
    scored: tuple[int | None, ...] = ()
    copies: bool = False


class SampledRows(NamedTuple):
    """The N rows that a step samples, on the device, int32.

    rows, positions: [N], of the sampling state, -1 for padding, and in the output. tokens: what
    each row's last token is. mask_samples [M], masks [M, W]: of rows with a grammar; None: no row
    has one.
    """

    rows: Tensor
    positions: Tensor
    tokens: StepTokens
    mask_samples: Tensor | None = None
    masks: Tensor | None = None

    @classmethod
    def from_plan(cls, plan: StepPlan, device: torch.device) -> "SampledRows":
        """Copy what a plan says of them."""
        rows, positions, last, input_ids, places = (
            upload(each, device)
            for each in (
                plan.sample_rows,
                plan.sample_positions,
                plan.sample_tokens,
                plan.input_ids,
                plan.positions,
            )
        )
        tokens = StepTokens(last, input_ids, places)
        samples = np.arange(len(plan.sample_rows))
        return cls(rows, positions, tokens).with_masks(plan, samples)

    def some(self, at: Tensor) -> "SampledRows":
        """Return some of them. at: [M] int32, ascending."""
        rows, positions, last = (
            each.index_select(0, at) for each in (self.rows, self.positions, self.tokens.last)
        )
        return SampledRows(rows, positions, self.tokens._replace(last=last))

    def with_masks(self, plan: StepPlan, samples: Ids) -> "SampledRows":
        """Return the same with what a plan's grammars allow. samples: which of the plan's they are,
        ascending."""
        found = masks_of(plan, samples)
        if found is None or not len(found[0]):
            return self
        which, masks = (upload(each.astype(np.int32), self.rows.device) for each in found)
        return self._replace(mask_samples=which, masks=masks)


@dataclass(slots=True)
class Drawn:
    """A step's tokens on the device, [N] int32, and their scores, if they were asked for.

    scores: as words, see Scores. counts: of each row, how many of the best are told beside its
    token; None: it is not scored. scored: of how many rows which these are, if some were not drawn
    with them.
    """

    tokens: Tensor
    scores: Tensor | None = None
    counts: tuple[int | None, ...] = field(default=())
    scored: tuple[int, Ids] | None = None

    def logprobs(self, scores: Words | None) -> list[TokenLogprobs | None]:
        """Return what each row is told, none if nobody asked. scores: on the host."""
        if scores is None:
            return []
        found = read_scores(scores, self.counts)
        if self.scored is None:
            return found
        num_rows, samples = self.scored
        logprobs: list[TokenLogprobs | None] = [None] * num_rows
        for sample, each in zip(samples.tolist(), found, strict=True):
            logprobs[sample] = each
        return logprobs

    def among(
        self, num_rows: int, samples: Ids, at: Tensor, rest: Tensor, others: Tensor
    ) -> "Drawn":
        """Return them among others. samples: [M], which of num_rows these are, as at [M] on the
        device; others: the tokens of the rest."""
        tokens = self.tokens.new_empty(num_rows)
        tokens.index_copy_(0, at.long(), self.tokens)
        tokens.index_copy_(0, rest.long(), others)
        if self.scores is None:
            return Drawn(tokens)
        return Drawn(tokens, self.scores, self.counts, (num_rows, samples))

    def read(self) -> Sampled:
        """Wait for the device, and return what it drew."""
        scores = None if self.scores is None else self.scores.cpu().numpy()
        return Sampled(self.tokens.cpu().numpy().astype(np.int64), self.logprobs(scores))


class DeviceSampler(Sampler):
    """Holds the sampling parameters of every row on the device, and draws there."""

    def __init__(
        self,
        max_num_seqs: int,
        vocab: slice,
        tp: TensorParallel,
        eos_token_ids: Sequence[int] = (),
        *,
        device: torch.device,
    ) -> None:
        """See Sampler."""
        super().__init__(max_num_seqs, vocab, tp, eos_token_ids)
        self._device = device
        self._columns = np.zeros((len(_COLUMNS), max_num_seqs), np.int64)
        self._table = torch.zeros(self._columns.shape, dtype=torch.int64, device=device)
        self._is_stale = False
        self._records: list[Tensor | None] = [None] * max_num_seqs
        self._has_rules = np.zeros(max_num_seqs, np.bool_)
        views = {
            name: column.view(torch.float64) if name in _FLOATS else column
            for name, column in zip(_COLUMNS, self._table, strict=True)
        }
        self._addresses = views.pop("records")
        self._settings = RowSettings(**views)
        widths = tp.all_gather(torch.tensor([vocab.stop - vocab.start])).flatten().tolist()
        self._widths: list[int] = widths

    @property
    def is_alone(self) -> bool:
        """Whether this rank has the whole vocabulary."""
        return self._tp.size == 1

    def join(self, join: Join) -> None:
        """Begin a row; its history goes to the device, and what else its processors need."""
        row, params = join.row, join.params
        super().join(replace(join, token_ids=[]))
        heat = self._temperature[row]
        try:
            record = record_of(join, self._eos_token_ids, sum(self._widths))
        except Exception:
            logger.exception("a row's history cannot be read")
            record, heat = None, _AT_FAULT
            self._is_greedy[row] = False
        self._records[row] = None if record is None else upload(record, self._device)
        self._has_rules[row] = record is not None
        kept = self._records[row]
        numbers: dict[str, float | int] = {
            "temperature": heat,
            "top_k": int(self._top_k[row]),
            "top_p": params.top_p,
            "min_p": params.min_p,
            "seeds": params.seed,
            "choices": params.choice,
            "records": 0 if kept is None else kept.data_ptr(),
        }
        for name, column in zip(_COLUMNS, self._columns, strict=True):
            words = column.view(np.float64) if name in _FLOATS else column
            words[row] = numbers[name]
        self._is_stale = True

    def needs(self, rows: Ids | NDArray[np.int32]) -> Needs:
        """Return what rows ask for."""
        top_k = self._top_k[rows]
        filtered = self._is_filtered(rows) & (self._temperature[rows] > 0)
        num_best = 0
        if filtered.any():
            is_few = ((top_k > 0) & (top_k <= FEW_CANDIDATES))[filtered].all()
            num_best = FEW_CANDIDATES if is_few else MAX_CANDIDATES
        scored = tuple(params.logprobs for params in self.params_of(rows))
        has_rules = bool(self._has_rules[rows].any())
        if all(count is None for count in scored):
            return Needs(num_best, has_rules)
        is_scored = np.array([count is not None for count in scored])
        copies = bool(self._has_rules[rows][is_scored].any())
        return Needs(num_best, has_rules, scored, copies)

    def sample(self, logits: Tensor, plan: StepPlan, again: Callable[[], Tensor]) -> Sampled:
        """Draw one token for each of a plan's samples, and wait for them; see Sampler."""
        sampled = SampledRows.from_plan(plan, self._device)
        return self.draw(logits, sampled, self.needs(plan.sample_rows)).read()

    def draw(self, logits: Tensor, sampled: SampledRows, needs: Needs) -> Drawn:
        """Draw one token for each row, on the device.

        logits: [N, this rank's tokens] float32, scratch. Every rank of the group must call it.
        """
        self._flush()
        whole = self._gather_whole(logits)
        raw = whole.clone() if needs.copies else whole
        if needs.has_rules:
            apply_rules(whole, sampled.rows, sampled.positions, self._addresses, sampled.tokens)
        if sampled.masks is not None and sampled.mask_samples is not None:
            raw = whole.clone() if raw is whole and needs.scored else raw
            apply_masks(whole, sampled.mask_samples, sampled.masks)
        found = survey(whole, sampled.rows, self._settings.temperature, needs.num_best)
        tokens = draw(whole, found, self._settings, sampled.rows, sampled.positions)
        if not needs.scored:
            return Drawn(tokens)
        words = self._score_words(len(tokens))
        score(raw, tokens, Scores.over(words))
        return Drawn(tokens, words, needs.scored)

    def choose(self, values: Tensor, ids: Tensor) -> Sampled:
        """See Sampler."""
        return Drawn(self.best(values, ids)).read()

    def token_logprobs(
        self, logits: Tensor, token_ids: Sequence[int], counts: Sequence[int]
    ) -> list[TokenLogprobs]:
        """See Sampler."""
        words = self.score_tokens([lambda: logits], [token_ids])
        scores = read_scores(words.cpu().numpy(), tuple(counts))
        return [each for each in scores if each is not None]

    def score_tokens(
        self, logits: Sequence[Callable[[], Tensor]], token_ids: Sequence[Sequence[int] | Words]
    ) -> Tensor:
        """Score tokens, some rows at a time, without waiting; return the words of all of them.

        logits: each gives [n, this rank's tokens] float32 when it is called; token_ids: n each.
        Every rank of the group must call it.
        """
        words = self._score_words(sum(map(len, token_ids)))
        scores, start = Scores.over(words), 0
        for give, ids in zip(logits, token_ids, strict=True):
            rows = slice(start, start + len(ids))
            score(self._gather_whole(give()), upload(ids, self._device), scores.part(rows))
            start = rows.stop
        return words

    def _score_words(self, num_rows: int) -> Tensor:
        return torch.empty(num_rows * WORDS, dtype=torch.int32, device=self._device)

    def _flush(self) -> None:
        """Bring the device's table up to date with what has joined."""
        if self._is_stale:
            words = upload(self._columns.view(np.int32), self._device)
            self._table.copy_(words.view(torch.int64))
            self._is_stale = False

    def _gather_whole(self, logits: Tensor) -> Tensor:
        """Return the logits of the whole vocabulary, [N, V]."""
        if self._tp.size == 1:
            return logits
        padded = logits.new_zeros(len(logits), max(self._widths))
        padded[:, : logits.shape[1]] = logits
        parts = self._tp.all_gather(padded)
        return torch.cat(
            [part[:, :width] for part, width in zip(parts, self._widths, strict=True)], dim=1
        )


def read_scores(words: Words, counts: tuple[int | None, ...]) -> list[TokenLogprobs | None]:
    """Return what each row is told, None where nothing was asked. words: see Scores."""
    scores = Scores.over(torch.from_numpy(words))
    logprobs, top_logprobs, ranks, top_ids = (each.tolist() for each in scores)
    return [
        None
        if count is None
        else TokenLogprobs(
            logprobs[n],
            ranks[n],
            [
                pair
                for pair in zip(top_ids[n][:count], top_logprobs[n][:count], strict=True)
                if pair[1] > -np.inf
            ],
        )
        for n, count in enumerate(counts)
    ]
