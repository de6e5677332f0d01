"""What a row gets whose largest logit is taken, on the device: draw.without_token() in PyTorch."""

import torch
from torch import Tensor

from backend.step import FAULTY, NO_TOKEN


def best_tokens(largest: Tensor, ids: Tensor) -> Tensor:
    """Return the tokens of rows, [N] int32.

    largest: [N], each row's largest logit: FAULTY where that is no number or infinite, NO_TOKEN
    where nothing is allowed. ids: [N], where it is.
    """
    tokens = ids.int().where(largest.isfinite(), FAULTY)
    return tokens.where(largest != -torch.inf, NO_TOKEN)
