"""What the ranks gather of rows of logits: the best candidates, or for once all of a row.

Every rank gets the same, in the same order. Called by the sampler.
"""

import numpy as np
import torch
from torch import Tensor

from backend.ops.topk import topk
from backend.parallel import TensorParallel
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
        self, logits: Tensor, count: int, temperature: Floats, filters: SamplingFilters
    ) -> tuple[Floats, Ids, Floats, Floats]:
        """Return the best `count` of all ranks in order, with ids, whole logsumexp and largest.

        values: [N, count] logits, descending; ids: [N, count], ascending among equals; totals: [N],
        of the scaled logits, 0 where a top_k makes it needless; largest: [N], NaN if any rank's is.
        """
        best_values, best_ids = topk(logits, min(count, logits.shape[1]))
        values, ids = best_values.double().cpu(), best_ids.cpu() + self._offset
        totals = torch.full((len(logits),), -torch.inf, dtype=torch.float64)
        open_rows = np.flatnonzero(filters.top_k == 0)
        if len(open_rows):
            index = torch.from_numpy(open_rows).to(logits.device)
            scale = torch.from_numpy(temperature[open_rows]).to(logits)
            sums = (logits[index].div_(scale[:, None])).logsumexp(dim=-1)
            totals[open_rows] = sums.double().cpu()
        if self._tp.size > 1:
            values, ids, totals = self._gather(values, ids, totals, count)
        every, names, whole = values.numpy(), ids.numpy(), totals.numpy()
        whole[filters.top_k > 0] = 0
        order = np.lexsort((names, -every), axis=-1)[:, :count]
        rows = np.arange(len(every))[:, None]
        return every[rows, order], names[rows, order], whole, every.max(axis=1)

    def _gather(
        self, values: Tensor, ids: Tensor, totals: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the candidates of all ranks side by side, [N, ranks * count], and the totals' sum.

        A rank that has fewer than `count` tokens shows -inf for the absent, whatever their ids.
        """
        num_rows, own = values.shape
        message = torch.full((2 * count + 1, num_rows), -torch.inf, dtype=torch.float64)
        message[:own] = values.T
        message[count : count + own] = ids.T
        message[-1] = totals
        gathered = self._tp.all_gather(message)  # [ranks, 2 * count + 1, N]
        every = gathered[:, :count].reshape(-1, num_rows).T
        names = gathered[:, count:-1].reshape(-1, num_rows).T
        names = torch.where(names.isfinite(), names, -1.0).long()
        return every, names, gathered[:, -1].logsumexp(dim=0)

    def row(self, row: Tensor) -> Tensor:
        """Return one row's logits for the whole vocabulary, [V], on the host."""
        padded = torch.full((max(self._widths),), -torch.inf)
        padded[: len(row)] = row
        parts = self._tp.all_gather(padded)
        return torch.cat([p[:w] for p, w in zip(parts, self._widths, strict=True)])
