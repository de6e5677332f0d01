"""What the ranks gather of rows of logits: the best candidates, or for once all of a row.

Every rank gets the same, in the same order. Called by the sampler.
"""

import numpy as np
import torch
from torch import Tensor

from backend.candidates import best
from backend.draw import Floats, Ids, Limits
from backend.parallel import TensorParallel


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
        self, logits: Tensor, count: int, temperature: Floats, limits: Limits
    ) -> tuple[Floats, Ids, Floats, Floats]:
        """Return the best `count` of all ranks in order, with ids, whole logsumexp and largest.

        values: [N, count] logits, descending; ids: [N, count], ascending among equals; totals: [N],
        of the scaled logits, 0 where a top_k makes it needless; largest: [N], NaN if any rank's is.
        """
        values, ids = best(logits, min(count, logits.shape[1]))
        own = values.shape[1]
        message = torch.full((2 * count + 1, len(logits)), -torch.inf, dtype=torch.float64)
        message[:own] = values.T
        message[count : count + own] = (ids + self._offset).T
        open_rows = np.flatnonzero(limits.top_k == 0)
        if len(open_rows):
            index = torch.from_numpy(open_rows).to(logits.device)
            scale = torch.from_numpy(temperature[open_rows]).to(logits)
            sums = (logits[index].div_(scale[:, None])).logsumexp(dim=-1)
            message[-1, open_rows] = sums.double().cpu()
        gathered = self._tp.all_gather(message).numpy()  # [ranks, 2 * count + 1, N]
        everything = gathered[:, :count].reshape(-1, len(logits)).T  # [N, ranks * count]
        with np.errstate(invalid="ignore"):  # absent candidates have -inf for an id; a row fails
            names = gathered[:, count:-1].reshape(-1, len(logits)).T.astype(np.int64)
            totals = np.logaddexp.reduce(gathered[:, -1], axis=0)
        totals[limits.top_k > 0] = 0
        order = np.lexsort((names, -everything), axis=-1)[:, :count]
        values_out = np.take_along_axis(everything, order, axis=-1)
        ids_out = np.take_along_axis(names, order, axis=-1)
        return values_out, ids_out, totals, everything.max(axis=1)

    def row(self, row: Tensor) -> Tensor:
        """Return one row's logits for the whole vocabulary, [V], on the host."""
        padded = torch.full((max(self._widths),), -torch.inf)
        padded[: len(row)] = row
        parts = self._tp.all_gather(padded)
        return torch.cat([p[:w] for p, w in zip(parts, self._widths, strict=True)])
