"""Log-probabilities of raw logits: of a token, its rank, and the best beside it.

The vocabulary is shared out; what travels is a few numbers a row. Called for the rows that ask.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from backend.distributed.tensor_parallel import TensorParallel
from backend.ops.cumulative_probs import CumulativeProbs
from backend.ops.topk import count_greater, topk
from backend.sampling.draw import Floats, Ids
from backend.wire.messages import TokenLogprobs


def token_logprobs(
    logits: Tensor,
    rows: Ids,
    token_ids: Sequence[int],
    counts: Sequence[int],
    offset: int,
    tp: TensorParallel,
) -> list[TokenLogprobs]:
    """Score one token for each of some rows. Every rank of the group must call it for the same.

    logits: [M, this rank's tokens from `offset`], float32, raw. rows: [N], of the logits. counts:
    how many of the best to add for each row. Returns N of them, the same on every rank.
    """
    count = max(1, *counts)
    gathered = _gather(logits, rows, np.array(token_ids, np.int64), count, offset, tp)
    with np.errstate(invalid="ignore"):  # a row of NaN has NaN for all
        totals = np.logaddexp.reduce(gathered[:, -2], axis=0)
    chosen = gathered[:, -1].max(axis=0)
    greater = torch.from_numpy(count_greater(logits, rows, chosen.astype(np.float32)))
    ranks = tp.all_gather(greater).sum(0).tolist()

    logprobs = []
    for n, total in enumerate(totals):
        pairs = [
            (int(name), float(value - total))
            for value, name in zip(
                gathered[:, :count, n].ravel(), gathered[:, count:-2, n].ravel(), strict=True
            )
            if value > -np.inf
        ]
        pairs.sort(key=lambda pair: (-pair[1], pair[0]))
        logprob = float(chosen[n] - total)
        logprobs.append(TokenLogprobs(logprob, ranks[n], pairs[: counts[n]]))
    return logprobs


def _gather(
    logits: Tensor, rows: Ids, token_ids: Ids, count: int, offset: int, tp: TensorParallel
) -> Floats:
    """Return what the ranks know, [ranks, 2 * count + 2, N]: their best logits, those tokens' ids,
    the logsumexp, the token's own logit; -inf for what a rank does not have."""
    num_rows, width = len(rows), logits.shape[1]
    best = min(count, width)
    values, ids = topk(logits, best, rows)
    local = token_ids - offset
    is_here = (local >= 0) & (local < width)
    places = rows, np.where(is_here, local, 0)
    own = logits[tuple(torch.from_numpy(each).to(logits.device) for each in places)]
    message = np.full((2 * count + 2, num_rows), -np.inf)
    message[:best] = values.T
    message[count : count + best] = ids.T + offset
    message[-2] = CumulativeProbs(logits, rows, np.ones(num_rows)).logsumexp
    message[-1] = np.where(is_here, own.cpu().numpy(), -np.inf)
    return tp.all_gather(torch.from_numpy(message)).numpy()
