"""From logits to one token a row, with the vocabulary shared out over the ranks.

No rank ever holds [N, V]. The logits processors change each rank's part (logits_processors.py).
Then for each row the ranks gather the largest logit, the logsumexp and, where a filter asks for
them, the best candidates; and every rank makes the same decision.

- greedy: the largest logit, the lowest id among equals.
- top-k, top-p, min-p: candidates ordered by (logit descending, id ascending); top-k cuts, top-p
  keeps the smallest set whose mass within that reaches p, min-p drops what is less than a share of
  the most likely; then the inverse of the cumulative mass.
- none of them: the inverse of the cumulative mass in vocabulary order, at three levels: first the
  rank by its share of the logsumexp, then a chunk of its tokens, then inside that. Exact.

A row's token and its log-probabilities are the same bits alone and in any batch: selections are
exact, every sum goes over one row in one order (ops/cumulative_probs.py), and what is done to all
rows at once is done to each number by itself. The logits are read where they lie, never copied but
for a row that is scored and has processors.

Where the gathered candidates hold too little mass for top-p or min-p, that row's logits are
gathered in full and the row is counted. A row whose processors leave no token gets NO_TOKEN, one
whose logits are not numbers or whose own code fails gets FAULTY.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.ops.cumulative_probs import CumulativeProbs
from backend.ops.topk import argmax, topk
from backend.sampling.best_tokens import best_tokens
from backend.sampling.draw import Ids, SamplingFilters, draw_filtered, without_token
from backend.sampling.isolation import apply_isolated
from backend.sampling.logit_gather import LogitGather
from backend.sampling.logits_processors import RowState, apply_logits_processors
from backend.sampling.logprobs import token_logprobs
from backend.sampling.philox import RowDraws
from backend.step import Join, StepPlan
from backend.wire.messages import TokenLogprobs
from backend.wire.sampling import SamplingParams

# topk(256) costs about 0.15 ms a row of 49,152; with top_p 0.95 at temperature 1 it suffices for
# all but the flattest rows.
MAX_CANDIDATES = 256
# So many are enough for all but the flattest rows that are gathered in full; a sort of all takes
# ten times as long.
MANY_CANDIDATES = 4096
# No logit leaves float64 when it is divided by so much, nor float32 its reciprocal.
MIN_TEMPERATURE = 1e-30

logger = logging.getLogger(__name__)

# Draws for some of a step's logits, [M]: the logits, which of them, their rows, their positions.
_Draw = Callable[[Tensor, Ids, Ids, Ids], Ids]


@dataclass(slots=True)
class Sampled:
    """token_ids: [N], the same on every rank. logprobs: one a row, None where none was asked for;
    empty if nobody asked."""

    token_ids: Ids
    logprobs: list[TokenLogprobs | None] = field(default_factory=list)


class Sampler:
    """Holds the sampling parameters of every row and draws. One for each rank."""

    def __init__(
        self,
        max_num_seqs: int,
        vocab: slice,
        tp: TensorParallel,
        eos_token_ids: Sequence[int] = (),
    ) -> None:
        """vocab: this rank's part."""
        self._eos_token_ids = eos_token_ids
        self._states: list[RowState | None] = [None] * max_num_seqs
        self._tp = tp
        self._offset = vocab.start
        self._is_greedy = np.zeros(max_num_seqs, np.bool_)
        self._keeps_logits = np.zeros(max_num_seqs, np.bool_)
        self._temperature = np.ones(max_num_seqs)
        self._top_k = np.zeros(max_num_seqs, np.int64)
        self._top_p = np.ones(max_num_seqs)
        self._min_p = np.zeros(max_num_seqs)
        self._draws = RowDraws(max_num_seqs)
        self._gather = LogitGather(vocab, tp)
        self.num_full_gathers = 0

    def join(self, join: Join) -> None:
        """Begin a row with these parameters."""
        params: SamplingParams = join.params
        try:
            state = RowState.begin(params, join.token_ids, join.num_prompt_tokens)
        except Exception:
            logger.exception("a row's history cannot be read")
            state = RowState(params, is_faulty=True)
        self._states[join.row] = state
        self._is_greedy[join.row] = params.is_greedy and not state.is_faulty
        self._keeps_logits[join.row] = params.keeps_logits
        is_warm = params.temperature > 0
        self._temperature[join.row] = max(params.temperature, MIN_TEMPERATURE) if is_warm else 0
        self._top_k[join.row] = max(0, params.top_k)
        self._top_p[join.row] = params.top_p
        self._min_p[join.row] = params.min_p
        self._draws.join(join.row, params.seed, params.choice)

    def params_of(self, rows: Ids | NDArray[np.int32]) -> list[SamplingParams]:
        """Return the parameters of rows that have joined."""
        return [state.params for state in self._states_of(rows)]

    def is_greedy(self, plan: StepPlan) -> bool:
        """Whether the largest logit of each row is all that a plan's samples need."""
        return len(self.asking(plan)) == 0

    def asking(self, plan: StepPlan) -> Ids:
        """Return which of a plan's samples need more than their largest logit, ascending."""
        asks = ~self._is_greedy[plan.sample_rows]
        asks[plan.mask_samples] = True
        return np.flatnonzero(asks)

    def choose(self, values: Tensor, ids: Tensor) -> Sampled:
        """Take the best token of each row.

        values, ids: [N], the largest logit of this rank's tokens, NaN if there is one; its place.
        """
        return Sampled(self._choose(values, ids))

    def best(self, values: Tensor, ids: Tensor) -> Tensor:
        """Return the best token of each row of all ranks, [N] int32, without the host.

        values, ids: as choose() takes them.
        """
        if self._tp.size == 1:
            return best_tokens(values, ids)
        own = torch.stack((values.double(), (ids + self._offset).double()))
        values, ids = self._tp.all_gather(own).unbind(1)  # [ranks, N]
        largest = values.amax(0)
        tokens = ids.where(values == largest, torch.inf).amin(0)
        return best_tokens(largest, tokens)

    def sample(self, logits: Tensor, plan: StepPlan, again: Callable[[], Tensor]) -> Sampled:
        """Draw one token for each of a plan's samples.

        logits: [N, this rank's tokens] float32, scratch. again: computes them once more, should the
        processors of a row fail.
        """
        rows, positions = plan.sample_rows, plan.sample_positions
        states = self._states_of(rows)
        scored = [n for n, state in enumerate(states) if state.params.logprobs is not None]
        raw, raw_rows = logits, np.array(scored, np.int64)
        if scored and not self._keeps_logits[rows[scored]].all():
            raw, raw_rows = logits[scored], np.arange(len(scored))  # a copy, before the processors
        logits = apply_isolated(
            logits, again, lambda part, ns: self._process(part, ns, states, plan)
        )
        tokens = self._sample(logits, rows, positions)
        if not scored:
            return Sampled(tokens)
        logprobs: list[TokenLogprobs | None] = [None] * len(states)
        counts = [states[n].params.logprobs or 0 for n in scored]
        chosen = np.maximum(tokens[scored], 0).tolist()
        scores = token_logprobs(raw, raw_rows, chosen, counts, self._offset, self._tp)
        for n, score in zip(scored, scores, strict=True):
            logprobs[n] = score
        return Sampled(tokens, logprobs)

    def _states_of(self, rows: Ids | NDArray[np.int32]) -> list[RowState]:
        states = [state for row in rows.tolist() if (state := self._states[row]) is not None]
        assert len(states) == len(rows), "a row is sampled that never joined"
        return states

    def _process(
        self, logits: Tensor, samples: Sequence[int], states: Sequence[RowState], plan: StepPlan
    ) -> None:
        """Apply the logits processors of some of a plan's samples; logits are theirs."""
        mine = [states[n] for n in samples]
        positions = plan.sample_positions[list(samples)].tolist()
        for state, n in zip(mine, plan.sample_tokens[list(samples)].tolist(), strict=True):
            state.catch_up(plan.input_ids, plan.positions, n)
        masks = masks_of(plan, samples)
        apply_logits_processors(logits, mine, positions, self._offset, self._eos_token_ids, masks)

    def token_logprobs(
        self, logits: Tensor, token_ids: Sequence[int], counts: Sequence[int]
    ) -> list[TokenLogprobs]:
        """Score one token a row of raw logits, and so many of the best beside it."""
        rows = np.arange(len(logits))
        return token_logprobs(logits, rows, token_ids, counts, self._offset, self._tp)

    def _sample(self, logits: Tensor, rows: NDArray[np.int32], positions: NDArray[np.int32]) -> Ids:
        temperature = self._temperature[rows]
        filtered = self._is_filtered(rows)
        kinds: list[tuple[NDArray[np.bool_], _Draw]] = [
            (temperature == 0, self._greedy),
            ((temperature > 0) & ~filtered, self._draw_from_all),
            ((temperature > 0) & filtered, self._draw_from_candidates),
        ]
        tokens = np.empty(len(rows), np.int64)
        for members, draw in kinds:
            part = np.flatnonzero(members)
            if len(part):
                tokens[part] = draw(
                    logits, part, rows[part].astype(np.int64), positions[part].astype(np.int64)
                )
        return tokens

    def _is_filtered(self, rows: Ids | NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which rows draw from some of their tokens alone, unless they are greedy."""
        return (self._top_k[rows] > 0) | (self._top_p[rows] < 1) | (self._min_p[rows] > 0)

    def _greedy(self, logits: Tensor, part: Ids, rows: Ids, positions: Ids) -> Ids:
        return self._choose(*argmax(logits, part))

    def _choose(self, values: Tensor, ids: Tensor) -> Ids:
        if self._tp.size == 1:
            best: Ids = ids.cpu().numpy().astype(np.int64) + self._offset
            return without_token(best, values.cpu().numpy().astype(np.float64))
        own = torch.stack((values.double(), (ids + self._offset).double()))
        gathered = self._tp.all_gather(own).cpu().numpy()  # [ranks, 2, N]
        winner = gathered[:, 0].argmax(axis=0)  # the first of equals, or NaN
        n = np.arange(len(values))
        chosen: Ids = gathered[winner, 1, n].astype(np.int64)
        return without_token(chosen, gathered[winner, 0, n])

    def _draw_from_all(self, logits: Tensor, part: Ids, rows: Ids, positions: Ids) -> Ids:
        own = CumulativeProbs(logits, part, self._temperature[rows])
        masses = self._tp.all_gather(torch.from_numpy(own.logsumexp)).numpy()  # [ranks, N]
        largest = masses.max(axis=0)
        is_barren = ~np.isfinite(largest)
        # Any rank may own a row without tokens.
        shares = np.exp(np.where(is_barren, 0.0, masses) - np.where(is_barren, 0.0, largest))
        cumulative = np.cumsum(shares, axis=0)
        cumulative /= cumulative[-1]
        draws = self._draws.at(rows, positions)
        owner = np.minimum((cumulative <= draws).sum(axis=0), len(masses) - 1)
        n = np.arange(len(rows))
        before = np.where(owner > 0, cumulative[owner - 1, n], 0.0)
        inside = (draws - before) / (cumulative[owner, n] - before)

        mine = np.flatnonzero((owner == self._tp.rank) & ~is_barren)
        tokens = np.zeros(len(rows), np.int64)
        if len(mine):
            tokens[mine] = own.invert(mine, inside[mine]) + self._offset
        chosen: Ids = self._tp.all_gather(torch.from_numpy(tokens)).numpy()[owner, n]
        return without_token(chosen, largest)

    def _draw_from_candidates(self, logits: Tensor, part: Ids, rows: Ids, positions: Ids) -> Ids:
        filters = SamplingFilters(self._top_k[rows], self._top_p[rows], self._min_p[rows])
        temperature = self._temperature[rows]
        vocab_size = self._gather.vocab_size
        wanted = int(filters.top_k.max()) if (filters.top_k > 0).all() else MAX_CANDIDATES
        count = min(wanted, MAX_CANDIDATES, vocab_size)
        values, ids, totals, largest = self._gather.candidates(
            logits, part, count, temperature, filters
        )
        draws = self._draws.at(rows, positions)
        tokens = without_token(np.zeros(len(rows), np.int64), largest)
        good = np.flatnonzero(tokens == 0)
        scaled = values / temperature[:, None]
        scaled[tokens != 0] = 0
        places, is_short = draw_filtered(scaled, totals, filters, draws, vocab_size)
        tokens[good] = ids[good, places[good]]
        for i in good[is_short[good]].tolist():
            row = logits[part[i]]
            tokens[i] = self._draw_from_row(row, temperature[i], filters.row(i), draws[i])
        return tokens

    def _draw_from_row(
        self, row: Tensor, temperature: float, filters: SamplingFilters, draw: float
    ) -> int:
        """Draw from all of one row's logits, because its candidates were too few."""
        self.num_full_gathers += 1
        whole = self._gather.row(row)[None]
        vocab_size = whole.shape[1]
        first = np.zeros(1, np.int64)
        totals = CumulativeProbs(whole, first, np.array([temperature])).logsumexp
        values, ids = topk(whole, min(MANY_CANDIDATES, vocab_size), first)
        draws = np.array([draw])
        scaled = values.astype(np.float64) / temperature
        place, is_short = draw_filtered(scaled, totals, filters, draws, vocab_size)
        if is_short[0]:
            ids = np.argsort(-whole.numpy(), axis=1, kind="stable")
            scaled = whole.numpy()[first[:, None], ids].astype(np.float64) / temperature
            place, _ = draw_filtered(scaled, totals, filters, draws, vocab_size)
        return int(ids[0, place[0]])


def masks_of(plan: StepPlan, samples: Sequence[int] | Ids) -> tuple[Ids, NDArray[np.int32]] | None:
    """Return the grammar masks of some of a plan's samples, and which of those have one."""
    if len(plan.masks) == 0:
        return None
    if len(samples) == len(plan.sample_rows):
        return plan.mask_samples.astype(np.int64), plan.masks
    chosen = np.isin(plan.mask_samples, samples)
    return np.searchsorted(samples, plan.mask_samples[chosen]), plan.masks[chosen]
