"""Softmax by chunks against float64, and each row by itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from backend.ops.cumulative_probs import CumulativeProbs

pytestmark = pytest.mark.numerics


def random_logits(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * 4


def sums_of(logits: Tensor, rows: list[int]) -> bytes:
    temperature = np.linspace(0.2, 2, len(logits))[rows]
    return CumulativeProbs(logits, np.array(rows), temperature).logsumexp.tobytes()


@pytest.mark.usefixtures("sampling_level")
@given(
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    width=st.integers(1, 1200),
    temperature=st.sampled_from([1e-30, 0.1, 0.7, 1.0, 2.0]),
    share_gone=st.sampled_from([0.0, 0.5, 0.99]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_logsumexp_and_inverse_are_those_in_float64(
    rows: list[int], width: int, temperature: float, share_gone: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    logits = random_logits(4, width, seed)
    logits[torch.from_numpy(generator.random((4, width)) < share_gone)] = -torch.inf
    logits[:, generator.integers(width)] = 1.0  # at least one token is left
    probs = CumulativeProbs(logits, np.array(rows), np.full(len(rows), temperature))
    scaled = logits.double() / temperature
    expected = scaled.logsumexp(-1).numpy()[rows]
    np.testing.assert_allclose(probs.logsumexp, expected, rtol=1e-6, atol=1e-6)

    which = generator.integers(len(rows), size=20)
    fractions = np.append(generator.random(18), [0.0, np.nextafter(1.0, 0)])
    cumulative = scaled.softmax(-1).cumsum(-1).numpy()
    for n, fraction, token in zip(which, fractions, probs.invert(which, fractions), strict=True):
        row = cumulative[rows[n]]
        near = [int((row <= fraction + e).sum()) for e in (-1e-6, 1e-6)]
        assert near[0] <= token <= near[1]
        assert logits[rows[n], token] > -torch.inf


@pytest.mark.usefixtures("sampling_level")
def test_rows_that_have_no_sum_say_so() -> None:
    logits = torch.zeros(4, 600)
    logits[0] = -torch.inf
    logits[1, 500] = torch.nan
    logits[2, 5] = torch.inf
    with np.errstate(invalid="ignore"):
        sums = CumulativeProbs(logits, np.arange(4), np.ones(4)).logsumexp
    assert sums[0] == -np.inf and np.isnan(sums[1:3]).all()
    assert sums[3] == pytest.approx(np.log(600))


@pytest.mark.usefixtures("sampling_level")
def test_row_is_the_same_alone_and_in_any_batch() -> None:
    logits = random_logits(31, 40_003, 3)
    among = np.frombuffer(sums_of(logits, list(range(31))))
    for n in range(31):
        assert sums_of(logits, [n]) == among[n].tobytes()
