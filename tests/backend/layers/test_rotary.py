"""The table of cosines and sines, row by row."""

import math

import pytest
import torch

from backend.config.rope import Rope, RopeScaling
from backend.layers.rotary import RotaryEmbedding


def rows_of(rope: Rope | None, positions: list[int], head_dim: int = 8) -> torch.Tensor:
    """Return cosines and sines, [T, 2, head_dim]."""
    table = RotaryEmbedding(rope, head_dim, 64, torch.float32, torch.device("cpu"))
    return torch.cat(table.at(torch.tensor(positions)), dim=1)


def test_halves_turn_by_their_frequencies() -> None:
    cos, sin = rows_of(Rope(8, 10000.0), [3])[0]
    angles = [3.0, 0.3, 0.03, 0.003]
    assert cos.tolist() == pytest.approx([math.cos(a) for a in angles] * 2)
    signs = [-1] * 4 + [1] * 4
    assert sin.tolist() == pytest.approx(
        [sign * math.sin(a) for sign, a in zip(signs, angles * 2, strict=True)]
    )


def test_what_does_not_turn_stays_as_it_is() -> None:
    for row in rows_of(None, [0, 5, 63]):
        assert row.tolist() == [[1.0] * 8, [0.0] * 8]
    cos, sin = rows_of(Rope(4, attention_factor=1.5), [3])[0]
    assert cos[[2, 3, 6, 7]].tolist() == [1.0] * 4
    assert sin[[2, 3, 6, 7]].tolist() == [0.0] * 4
    assert cos[[0, 4]].tolist() == pytest.approx([1.5 * math.cos(3)] * 2)


def test_dynamic_rows_depend_on_their_position_alone() -> None:
    """Up to the trained context as without scaling, beyond it by a base that grows."""
    rope = Rope(8, 10000.0, RopeScaling("dynamic", 4.0, original_max_position_embeddings=16))
    positions = [0, 15, 16, 40]
    rows = rows_of(rope, positions)
    for position, row in zip(positions, rows, strict=True):
        base = 10000.0 * (4 * max(1, (position + 1) / 16) - 3) ** (8 / 6)
        assert row[0, 1] == pytest.approx(math.cos(position * base ** (-2 / 8)), abs=1e-5)
    assert torch.equal(rows[:2], rows_of(Rope(8, 10000.0), [0, 15]))
    assert not torch.equal(rows[2:], rows_of(Rope(8, 10000.0), [16, 40]))
