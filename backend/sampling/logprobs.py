"""Log-probabilities of raw logits: of a token, its rank, and the best beside it.

The vocabulary is shared out; what travels is a few numbers a row. Called for the rows that ask.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from backend.parallel import TensorParallel
from backend.wire.messages import TokenLogprobs


def token_logprobs(
    logits: Tensor, token_ids: Sequence[int], counts: Sequence[int], offset: int, tp: TensorParallel
) -> list[TokenLogprobs]:
    """Score one token a row. Every rank of the group must call it with the same rows.

    logits: [N, this rank's tokens from `offset`], float32, raw. counts: how many of the best to add
    for each row. Returns N of them, the same on every rank.
    """
    n, width = logits.shape
    count = max(counts, default=0)
    best = min(count, width)
    values, ids = logits.topk(best, dim=-1)
    local = torch.tensor(token_ids, device=logits.device) - offset
    is_here = (local >= 0) & (local < width)
    own = logits.gather(1, local.clamp(0, width - 1)[:, None]).squeeze(1)
    # [2 * count + 2, N]: best logits, best ids, logsumexp, the token's own logit
    message = torch.full((2 * count + 2, n), -torch.inf, dtype=torch.float64)
    message[:best] = values.T
    message[count : count + best] = (ids + offset).T
    message[-2] = logits.logsumexp(dim=-1)
    message[-1] = own.masked_fill(~is_here, -torch.inf)
    gathered = tp.all_gather(message).numpy()  # [ranks, 2 * count + 2, N]
    with np.errstate(invalid="ignore"):  # a row of NaN has NaN for all
        total = np.logaddexp.reduce(gathered[:, -2], axis=0)
    chosen = gathered[:, -1].max(axis=0)
    larger = (logits > torch.from_numpy(chosen).to(logits)[:, None]).sum(-1)
    ranks = tp.all_gather(larger).sum(0).tolist()

    logprobs = []
    for row in range(n):
        pairs = [
            (int(name), float(value - total[row]))
            for value, name in zip(
                gathered[:, :count, row].ravel(), gathered[:, count:-2, row].ravel(), strict=True
            )
            if value > -np.inf
        ]
        pairs.sort(key=lambda pair: (-pair[1], pair[0]))
        logprob = float(chosen[row] - total[row])
        logprobs.append(TokenLogprobs(logprob, ranks[row], pairs[: counts[row]]))
    return logprobs
