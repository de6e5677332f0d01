"""What the ranks gather of rows of logits: the best candidates, or for once all of a row.

Every rank gets the same, in the same order. Called by the sampler.
"""

import numpy as np
import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.ops.cumulative_probs import CumulativeProbs
from backend.ops.topk import topk
from backend.sampling.draw import Floats, Ids, SamplingFilters


class LogitGather:
    """A vocabulary that is shared out over the ranks, seen by one of them."""

    def __init__(self, vocab: slice, tp: TensorParallel) -> None:
        """vocab: this rank's part."""
        self._tp = tp
        self._offset = vocab.start
        widths = tp.all_gather(torch.tensor([vocab.stop - vocab.start])).flatten().tolist()
        self._widths: list[int] = widths
        self.vocab_size = sum(widths)

    def candidates(
        self, logits: Tensor, rows: Ids, count: int, temperature: Floats, filters: SamplingFilters
    ) -> tuple[Floats, Ids, Floats, Floats]:
        """Return the best `count` of all ranks in order, with ids, whole logsumexp and largest.

        rows: [N], of the logits. values: [N, count] logits, descending; ids: [N, count], ascending
        among equals; totals: [N], of the scaled logits, 0 where a top_k makes it needless; largest:
        [N], NaN if any rank's is.
        """
        best, places = topk(logits, min(count, logits.shape[1]), rows)
        values, ids = best.astype(np.float64), places + self._offset
        totals = np.zeros(len(rows))
        is_open = filters.top_k == 0
        if is_open.any():
            probs = CumulativeProbs(logits, rows[is_open], temperature[is_open])
            totals[is_open] = probs.logsumexp
        if self._tp.size > 1:
            values, ids, totals = self._gather(values, ids, totals, count)
            totals[~is_open] = 0
        return values, ids, totals, values[:, 0]

    def _gather(
        self, values: Floats, ids: Ids, totals: Floats, count: int
    ) -> tuple[Floats, Ids, Floats]:
        """Return the best `count` of the candidates of all ranks, in order, and the totals' sum.

        A rank that has fewer than `count` tokens shows -inf for the absent, whatever their ids.
        """
        num_rows, own = values.shape
        message = np.full((2 * count + 1, num_rows), -np.inf)
        message[:own] = values.T
        message[count : count + own] = ids.T
        message[-1] = totals
        gathered = self._tp.all_gather(torch.from_numpy(message)).numpy()  # [ranks, ..., N]
        every = gathered[:, :count].reshape(-1, num_rows).T
        names = gathered[:, count:-1].reshape(-1, num_rows).T
        order = np.lexsort((names, np.where(np.isnan(every), -np.inf, -every)), axis=-1)[:, :count]
        row = np.arange(num_rows)[:, None]
        names = np.where(np.isfinite(names), names, -1)[row, order].astype(np.int64)
        with np.errstate(invalid="ignore"):  # a row of NaN has NaN for all
            whole = np.logaddexp.reduce(gathered[:, -1], axis=0)
        return every[row, order], names, whole

    def row(self, row: Tensor) -> Tensor:
        """Return one row's logits for the whole vocabulary, [V], on the host."""
        padded = torch.full((max(self._widths),), -torch.inf)
        padded[: len(row)] = row
        parts = self._tp.all_gather(padded)
        return torch.cat([p[:w] for p, w in zip(parts, self._widths, strict=True)])
