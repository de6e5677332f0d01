"""From logits to one token a row, with the vocabulary shared out over the ranks.

No rank ever holds [N, V]. The logits processors change each rank's part (logits_processors.py).
Then for each row the ranks gather the largest logit, the logsumexp and, where a filter asks for
them, the best candidates; and every rank makes the same decision.

- greedy: the largest logit, the lowest id among equals.
- top-k, top-p, min-p: candidates ordered by (logit descending, id ascending); top-k cuts, top-p
  keeps the smallest set whose mass within that reaches p, min-p drops what is less than a share of
  the most likely; then the inverse of the cumulative mass.
- none of them: the inverse of the cumulative mass in vocabulary order, at two levels: first the
  rank by its share of the logsumexp, then inside it. Exact.

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

from backend.ops.topk import CumulativeProbs, argmax, topk
from backend.parallel import TensorParallel
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

logger = logging.getLogger(__name__)


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
        *,
        exact: bool = False,
    ) -> None:
        """vocab: this rank's part. exact: sample each row by itself, see `ops/exact.py`."""
        self._eos_token_ids = eos_token_ids
        self._states: list[RowState | None] = [None] * max_num_seqs
        self._tp = tp
        self._offset = vocab.start
        self._exact = exact
        self._is_greedy = np.zeros(max_num_seqs, np.bool_)
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
        self._temperature[join.row] = params.temperature
        self._top_k[join.row] = max(0, params.top_k)
        self._top_p[join.row] = params.top_p
        self._min_p[join.row] = params.min_p
        self._draws.join(join.row, params.seed, params.choice)

    def params_of(self, rows: Ids | NDArray[np.int32]) -> list[SamplingParams]:
        """Return the parameters of rows that have joined."""
        return [state.params for state in self._states_of(rows)]

    def is_greedy(self, plan: StepPlan) -> bool:
        """Whether the largest logit of each row is all that a plan's samples need."""
        if self._exact:
            return False
        return bool(self._is_greedy[plan.sample_rows].all()) and len(plan.masks) == 0

    def choose(self, values: Tensor, ids: Tensor) -> Sampled:
        """Take the best token of each row.

        values, ids: [N], the largest logit of this rank's tokens, NaN if there is one; its place.
        """
        return Sampled(self._choose(values, ids))

    def sample(self, logits: Tensor, plan: StepPlan, again: Callable[[], Tensor]) -> Sampled:
        """Draw one token for each of a plan's samples.

        logits: [N, this rank's tokens] float32, scratch. again: computes them once more, should the
        processors of a row fail.
        """
        rows, positions = plan.sample_rows, plan.sample_positions
        states = self._states_of(rows)
        scored = [n for n, state in enumerate(states) if state.params.logprobs is not None]
        raw = logits[scored] if scored else None  # a copy, before the processors
        logits = apply_isolated(
            logits, again, lambda part, ns: self._process(part, ns, states, plan)
        )
        draw = self._by_row if self._exact else self._sample
        tokens = draw(logits, rows, positions)
        logprobs: list[TokenLogprobs | None] = []
        if raw is not None:
            logprobs = [None] * len(states)
            counts = [states[n].params.logprobs or 0 for n in scored]
            chosen = np.maximum(tokens[scored], 0).tolist()
            for n, each in zip(scored, self.token_logprobs(raw, chosen, counts), strict=True):
                logprobs[n] = each
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
        masks = _masks_of(plan, samples)
        apply_logits_processors(logits, mine, positions, self._offset, self._eos_token_ids, masks)

    def token_logprobs(
        self, logits: Tensor, token_ids: Sequence[int], counts: Sequence[int]
    ) -> list[TokenLogprobs]:
        """Score one token a row of raw logits; in exact mode each row by itself."""
        if not self._exact:
            return token_logprobs(logits, token_ids, counts, self._offset, self._tp)
        return [
            each
            for n in range(len(token_ids))
            for each in token_logprobs(
                logits[n : n + 1], token_ids[n : n + 1], counts[n : n + 1], self._offset, self._tp
            )
        ]

    def _by_row(self, logits: Tensor, rows: NDArray[np.int32], positions: NDArray[np.int32]) -> Ids:
        parts = [
            self._sample(logits[i : i + 1], rows[i : i + 1], positions[i : i + 1])
            for i in range(len(rows))
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def _sample(self, logits: Tensor, rows: NDArray[np.int32], positions: NDArray[np.int32]) -> Ids:
        temperature = self._temperature[rows]
        filtered = (self._top_k[rows] > 0) | (self._top_p[rows] < 1) | (self._min_p[rows] > 0)
        kinds: list[tuple[NDArray[np.bool_], Callable[[Tensor, Ids, Ids], Ids]]] = [
            (temperature == 0, self._greedy),
            ((temperature > 0) & ~filtered, self._draw_from_all),
            ((temperature > 0) & filtered, self._draw_from_candidates),
        ]
        tokens = np.empty(len(rows), np.int64)
        for members, draw in kinds:
            indices = np.flatnonzero(members)
            if len(indices) == 0:
                continue
            part = logits if len(indices) == len(rows) else logits[torch.from_numpy(indices)]
            tokens[indices] = draw(
                part, rows[indices].astype(np.int64), positions[indices].astype(np.int64)
            )
        return tokens

    def _greedy(self, logits: Tensor, rows: Ids, positions: Ids) -> Ids:
        return self._choose(*argmax(logits))

    def _choose(self, values: Tensor, ids: Tensor) -> Ids:
        own = torch.stack((values.double(), (ids + self._offset).double()))
        gathered = self._tp.all_gather(own).cpu().numpy()  # [ranks, 2, N]
        winner = gathered[:, 0].argmax(axis=0)  # the first of equals, or NaN
        n = np.arange(len(values))
        chosen: Ids = gathered[winner, 1, n].astype(np.int64)
        return without_token(chosen, gathered[winner, 0, n])

    def _draw_from_all(self, logits: Tensor, rows: Ids, positions: Ids) -> Ids:
        own = CumulativeProbs(self._scale(logits, rows))
        masses = self._tp.all_gather(own.logsumexp).cpu().numpy()  # [ranks, N]
        largest = masses.max(axis=0)
        is_barren = ~np.isfinite(largest)
        # Any rank may own a row without tokens.
        shares = np.exp(np.where(is_barren, 0.0, masses) - np.where(is_barren, 0.0, largest))
        cumulative = np.cumsum(shares, axis=0) / shares.sum(axis=0)
        draws = self._draws.at(rows, positions)
        owner = np.minimum((cumulative <= draws).sum(axis=0), len(masses) - 1)
        n = np.arange(len(rows))
        before = np.where(owner > 0, cumulative[owner - 1, n], 0.0)
        inside = (draws - before) / (cumulative[owner, n] - before)

        mine = np.flatnonzero((owner == self._tp.rank) & ~is_barren)
        tokens = torch.zeros(len(rows), dtype=torch.int64)
        if len(mine):
            index = torch.from_numpy(mine).to(logits.device)
            fractions = torch.from_numpy(inside[mine]).to(logits.device)
            tokens[mine] = own.invert(index, fractions).cpu() + self._offset
        chosen: Ids = self._tp.all_gather(tokens).numpy()[owner, n]
        return without_token(chosen, largest)

    def _draw_from_candidates(self, logits: Tensor, rows: Ids, positions: Ids) -> Ids:
        filters = SamplingFilters(self._top_k[rows], self._top_p[rows], self._min_p[rows])
        temperature = self._temperature[rows]
        vocab_size = self._gather.vocab_size
        wanted = int(filters.top_k.max()) if (filters.top_k > 0).all() else MAX_CANDIDATES
        count = min(wanted, MAX_CANDIDATES, vocab_size)
        values, ids, totals, largest = self._gather.candidates(logits, count, temperature, filters)
        draws = self._draws.at(rows, positions)
        tokens = without_token(np.zeros(len(rows), np.int64), largest)
        good = np.flatnonzero(tokens == 0)
        scaled = values / temperature[:, None]
        scaled[tokens != 0] = 0
        places, is_short = draw_filtered(scaled, totals, filters, draws, vocab_size)
        tokens[good] = ids[good, places[good]]
        for i in good[is_short[good]].tolist():
            tokens[i] = self._draw_from_row(logits[i], temperature[i], filters.row(i), draws[i])
        return tokens

    def _draw_from_row(
        self, row: Tensor, temperature: float, filters: SamplingFilters, draw: float
    ) -> int:
        """Draw from all of one row's logits, because its candidates were too few."""
        self.num_full_gathers += 1
        whole = self._gather.row(row)[None]
        vocab_size = whole.shape[1]
        totals = (whole / temperature).logsumexp(dim=-1).double().numpy()
        values, ids = topk(whole, min(MANY_CANDIDATES, vocab_size))
        order = np.lexsort((ids.numpy(), -values.numpy()))
        values, ids = values[:, order[0]], ids[:, order[0]]
        draws = np.array([draw])
        scaled = values.double().numpy() / temperature
        place, is_short = draw_filtered(scaled, totals, filters, draws, vocab_size)
        if is_short[0]:
            values, ids = whole.sort(descending=True, stable=True)
            scaled = values.double().numpy() / temperature
            place, _ = draw_filtered(scaled, totals, filters, draws, vocab_size)
        return int(ids[0, place[0]])

    def _scale(self, logits: Tensor, rows: Ids) -> Tensor:
        """Divide by the temperatures, in place."""
        temperature = self._temperature[rows]
        if (temperature == 1).all():
            return logits
        return logits.div_(torch.from_numpy(temperature).to(logits)[:, None])


def _masks_of(plan: StepPlan, samples: Sequence[int]) -> tuple[Ids, NDArray[np.int32]] | None:
    """Return the grammar masks of some of a plan's samples, and which of those have one."""
    if len(plan.masks) == 0:
        return None
    if len(samples) == len(plan.sample_rows):
        return plan.mask_samples.astype(np.int64), plan.masks
    chosen = np.isin(plan.mask_samples, samples)
    return np.searchsorted(samples, plan.mask_samples[chosen]), plan.masks[chosen]
