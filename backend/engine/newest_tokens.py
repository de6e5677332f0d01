"""The token drawn last for each row of a batch, on the device: what the next step begins with."""

import torch
from torch import Tensor


class NewestTokens:
    """[rows] int32, written when tokens are drawn, before the host has seen them."""

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self._tokens = torch.zeros(num_rows, dtype=torch.int32, device=device)

    def resolve(self, input_ids: Tensor) -> Tensor:
        """Return a plan's input ids, [T] int32, with -1 - r replaced by the token of row r.

        A row that no token could be drawn for goes on with token 0; its sequence is over, and what
        it computes is dropped.
        """
        rows = (-1 - input_ids).clamp_(min=0)
        newest = self._tokens.index_select(0, rows)
        return torch.where(input_ids < 0, newest, input_ids).clamp_(min=0)

    def note(self, rows: Tensor, tokens: Tensor) -> None:
        """Note what was drawn. rows, tokens: [N] int32, no row twice."""
        self._tokens.index_copy_(0, rows.long(), tokens)
