"""Masks of grammars, cut at any token."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.ops.token_masks import apply_masks

pytestmark = pytest.mark.usefixtures("sampling_level")

WIDTH = 100


@given(
    allowed=st.sets(st.integers(0, WIDTH - 1)),
    offset=st.integers(0, WIDTH - 1),
    num_words=st.integers(1, 4),
)
@settings(deadline=None)
def test_masks_cut_at_any_place(allowed: set[int], offset: int, num_words: int) -> None:
    masks = np.zeros((2, num_words), np.uint32)
    for token in allowed:
        if token // 32 < num_words:
            masks[1, token // 32] |= np.uint32(1 << token % 32)
    logits = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(5))
    own = logits[:, offset:].clone()
    apply_masks(own, np.array([2, 1]), masks.view(np.int32), offset)
    assert torch.equal(own[0], logits[0, offset:])
    assert own[2].isneginf().all()
    for token in range(offset, WIDTH):
        kept = token in allowed and token // 32 < num_words
        assert own[1, token - offset] == (logits[1, token] if kept else -torch.inf)


def test_nan_is_not_hidden_by_a_mask() -> None:
    logits = torch.full((1, 40), torch.nan)
    apply_masks(logits, np.array([0]), np.zeros((1, 1), np.int32), 0)
    assert logits[0, :32].isnan().all()
