"""Selections against a stable sort of everything."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.ops.topk import MAX_NATIVE, argmax, count_greater, topk

pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("sampling_level")]


@given(
    rows=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    width=st.integers(1, 3000),
    count=st.integers(1, MAX_NATIVE + 5),
    num_values=st.sampled_from([1, 3, 50, 10**6]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_topk_is_that_of_a_stable_sort(
    rows: list[int], width: int, count: int, num_values: int, seed: int
) -> None:
    """Few values: many equals, of which the first are in. Some are -inf, as rules leave them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(num_values, (5, width), generator=generator).float()
    logits[torch.rand(5, width, generator=generator) < 0.3] = -torch.inf
    count = min(count, width)
    values, ids = topk(logits, count, np.array(rows))
    expected_values, expected_ids = logits[rows].sort(dim=-1, descending=True, stable=True)
    assert np.array_equal(values, expected_values[:, :count].numpy())
    assert np.array_equal(ids, expected_ids[:, :count].numpy())


def test_topk_of_a_row_with_nan_has_it_first() -> None:
    logits = torch.randn(3, 100)
    logits[1, 77] = torch.nan
    values, _ = topk(logits, 5, np.array([1, 2, 0, 1]))
    assert np.isnan(values[:, 0]).tolist() == [True, False, False, True]


def test_argmax_takes_the_first_of_equals_and_nan_before_all() -> None:
    logits = torch.tensor([[1.0, 5.0, 5.0], [7.0, torch.nan, 9.0], [3.0, 2.0, 1.0]])
    values, ids = argmax(logits, np.array([2, 1, 0]))
    assert ids.tolist() == [0, 1, 1]
    assert values.tolist()[::2] == [3.0, 5.0] and values[1].isnan()
    assert argmax(logits)[1].tolist() == [1, 1, 0]


def test_count_greater_counts_each_row_against_its_value() -> None:
    logits = torch.arange(10.0).repeat(3, 1)
    logits[1] = -torch.inf
    values = np.array([3.0, -np.inf, 8.5], np.float32)
    counts = count_greater(logits, np.array([2, 1, 0]), values)
    assert counts.tolist() == [6, 0, 1]
