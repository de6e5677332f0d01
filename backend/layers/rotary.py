"""Rotary position embedding (Su et al. 2021), halves rotated as Llama's reference does."""

import torch
from torch import Tensor

from backend.config.rope import Rope
from backend.ops.batch import Rotation


class RotaryEmbedding:
    """A table of cosines and sines, computed in fp32, kept in the forward pass's dtype.

    What of a head does not turn has angle 0; it stands behind what turns, in either half
    (weights/head_rows.py). Without a rope nothing turns.
    """

    def __init__(
        self,
        rope: Rope | None,
        head_dim: int,
        max_len: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        half = head_dim // 2
        angles = torch.zeros(max_len if rope else 1, half)
        if rope:
            angles[:, : rope.dim // 2] = _angles(rope, max_len)
        cos, sin = angles.cos(), angles.sin()
        if rope and rope.attention_factor != 1.0:
            turned = slice(0, rope.dim // 2)
            cos[:, turned] *= rope.attention_factor
            sin[:, turned] *= rope.attention_factor
        self._has_positions = rope is not None
        self._cos = torch.cat((cos, cos), dim=-1).to(device, dtype)
        self._sin = torch.cat((-sin, sin), dim=-1).to(device, dtype)

    def at(self, positions: Tensor) -> Rotation:
        """[T] positions -> cos and sin, [T, 1, head_dim], for `Ops.rotate_store`."""
        rows = positions if self._has_positions else torch.zeros_like(positions)
        return (
            self._cos.index_select(0, rows).unsqueeze(1),
            self._sin.index_select(0, rows).unsqueeze(1),
        )


def _angles(rope: Rope, max_len: int) -> Tensor:
    """Return what each position turns by, radians, [max_len, dim / 2]."""
    positions = torch.arange(max_len).float()
    if rope.has_one_base:
        return torch.outer(positions, torch.tensor(rope.inv_freq(max_len)))
    bases = torch.tensor([rope.theta_at(position) for position in range(max_len)]).double()
    exponents = torch.arange(0, rope.dim, 2) / rope.dim
    return positions[:, None] * (bases[:, None] ** -exponents).float()
