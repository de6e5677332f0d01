"""Rotary position embedding (Su et al. 2021), halves rotated as Llama's reference does."""

import torch
from torch import Tensor

from backend.config.rope import Rope
from backend.ops.batch import Rotation

# A table is made so many positions at a time: of 262,144, in one piece, float32 takes 0.5 GB more.
_ROWS = 8192


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
        rows = max_len if rope else 1
        self._has_positions = rope is not None
        self._cos = torch.empty(rows, head_dim, dtype=dtype, device=device)
        self._sin = torch.empty_like(self._cos)
        for start in range(0, rows, _ROWS):
            part = slice(start, min(start + _ROWS, rows))
            cos, sin = _turned(rope, torch.arange(part.start, part.stop), head_dim, max_len)
            self._cos[part] = torch.cat((cos, cos), dim=-1)
            self._sin[part] = torch.cat((-sin, sin), dim=-1)

    def at(self, positions: Tensor) -> Rotation:
        """[T] positions -> cos and sin, [T, 1, head_dim], for `Ops.rotate_store`."""
        rows = positions if self._has_positions else torch.zeros_like(positions)
        return (
            self._cos.index_select(0, rows).unsqueeze(1),
            self._sin.index_select(0, rows).unsqueeze(1),
        )


def _turned(
    rope: Rope | None, positions: Tensor, head_dim: int, max_len: int
) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of [T] positions, [T, head_dim / 2] each."""
    angles = torch.zeros(len(positions), head_dim // 2)
    if rope is None:
        return angles.cos(), angles.sin()
    turned = slice(0, rope.dim // 2)
    angles[:, turned] = _angles(rope, positions, max_len)
    cos, sin = angles.cos(), angles.sin()
    if rope.attention_factor != 1.0:
        cos[:, turned] *= rope.attention_factor
        sin[:, turned] *= rope.attention_factor
    return cos, sin


def _angles(rope: Rope, positions: Tensor, max_len: int) -> Tensor:
    """Return what [T] positions turn by, radians, [T, dim / 2]."""
    if rope.has_one_base:
        return torch.outer(positions.float(), torch.tensor(rope.inv_freq(max_len)))
    bases = torch.tensor([rope.theta_at(position) for position in positions.tolist()]).double()
    exponents = torch.arange(0, rope.dim, 2) / rope.dim
    return positions[:, None].float() * (bases[:, None] ** -exponents).float()
