"""Rotary position embedding (Su et al. 2021), halves rotated as Llama's reference does."""

import torch
from torch import Tensor

from backend.config.model_config import ModelConfig
from backend.ops.batch import Rotation


class RotaryEmbedding:
    """A table of cosines and sines, computed in fp32, kept in the forward pass's dtype."""

    def __init__(
        self, config: ModelConfig, max_len: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        angles = torch.outer(torch.arange(max_len).float(), torch.tensor(config.inv_freq()))
        cos, sin = angles.cos(), angles.sin()
        self._cos = torch.cat((cos, cos), dim=-1).to(device, dtype)
        self._sin = torch.cat((-sin, sin), dim=-1).to(device, dtype)

    def at(self, positions: Tensor) -> Rotation:
        """[T] positions -> cos and sin, [T, 1, head_dim], for `Ops.rotate_store`."""
        return (
            self._cos.index_select(0, positions).unsqueeze(1),
            self._sin.index_select(0, positions).unsqueeze(1),
        )
