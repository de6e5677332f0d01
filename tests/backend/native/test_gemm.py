"""What a row's result may depend on: its own numbers, and nothing else in its batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
import torch
from torch import Tensor

from backend import native
from backend.linear.method import PackedWeight
from backend.linear.registry import create_method
from backend.native import absence, kernels, levels
from backend.native.level import Activations
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from tests.backend.stored_weights import randn, stored_of, uneven_rows

pytestmark = [
    pytest.mark.numerics,
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.usefixtures("level"),
]

CPU = torch.device("cpu")
FORMATS = [WeightFormat.DENSE, *BLOCK_FORMATS]
MAX_THREADS = 3


def pack(
    weight_format: WeightFormat,
    features: int,
    width: int,
    activations: Activations = "int8",
    seed: int = 0,
) -> PackedWeight:
    method = create_method("auto", "portable", torch.bfloat16, CPU, activations)
    return method.pack(stored_of(weight_format, features, width, seed))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Have so many threads run the kernels, then one a core of the test's worker again."""
    native.set_num_threads(count)
    try:
        yield
    finally:
        native.set_num_threads(torch.get_num_threads())


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two results are the same bits."""
    return torch.equal(one, other)


@pytest.mark.pairwise
@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize(
    ("features", "width", "activations"),
    [(240, 512, "int8"), (48, 3072, "int16"), (48, 3072, "mixed")],
)
def test_row_is_batch_invariant_and_thread_invariant(
    weight_format: WeightFormat, features: int, width: int, activations: Activations
) -> None:
    packed = pack(weight_format, features, width, activations)
    x = uneven_rows(130, width)
    together, logits = packed.apply(x), packed.logits(x)
    for count in (1, MAX_THREADS):
        with threads(count):
            for start, rows in ((0, 1), (64, 1), (129, 1), (3, 2), (7, 16), (31, 40), (0, 130)):
                some = slice(start, start + rows)
                assert same(packed.apply(x[some]), together[some])
                assert same(packed.logits(x[some]), logits[some])


@pytest.mark.parametrize("activations", ["int8", "int16", "mixed"])
@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_row_is_the_same_at_every_level(
    weight_format: WeightFormat, activations: Activations, level: str
) -> None:
    x = uneven_rows(37, 512)
    own = pack(weight_format, 96, 512, activations).logits(x)
    kernels.use(levels()[-1])
    assert same(pack(weight_format, 96, 512, activations).logits(x), own)


@pytest.mark.parametrize("weight_format", FORMATS)
def test_infinities_and_nan_stay_in_their_row(weight_format: WeightFormat) -> None:
    packed = pack(weight_format, 48, 256, "mixed")
    for rows, bad in product((5, 40), (torch.nan, torch.inf, -torch.inf)):
        x = randn(rows, 256).bfloat16()
        clean = packed.logits(x)
        x[2, 77] = bad
        got = packed.logits(x)
        assert not got[2].isfinite().any()
        others = [row for row in range(rows) if row != 2]
        assert same(got[others], clean[others])


@pytest.mark.parametrize("weight_format", FORMATS)
def test_rows_of_any_size_keep_their_precision(weight_format: WeightFormat) -> None:
    """Each group of a row has a scale of its own, from the least numbers to the largest."""
    packed = pack(weight_format, 48, 256, "mixed")
    x = uneven_rows(1, 256)
    expected = packed.logits(x)
    for power in (-60, -20, 20, 60):
        assert same(packed.logits(x * 2.0**power), expected * 2.0**power)
    assert same(packed.logits(torch.zeros_like(x)), torch.zeros_like(expected))


@pytest.mark.pairwise
@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("count", [1, MAX_THREADS])
def test_argmax_is_the_first_of_the_largest_logits(weight_format: WeightFormat, count: int) -> None:
    """Rows 50 apart are the same, so that most words have several others with their very scores."""
    stored = stored_of(weight_format, 50, 256)
    method = create_method("auto", "portable", torch.bfloat16, CPU)
    packed = method.stack([stored] * 20).parts[0]
    with threads(count):
        for rows in (0, 1, 7, 16, 17, 70):
            x = randn(rows, 256, seed=rows).bfloat16()
            values, ids = packed.argmax(x)
            scores = packed.logits(x).numpy()
            assert ids.tolist() == scores.argmax(axis=1).tolist() if rows else not len(ids)
            assert values.tolist() == (scores.max(axis=1).tolist() if rows else [])


@pytest.mark.parametrize("weight_format", FORMATS)
def test_argmax_of_a_row_with_nan_is_nan_and_spares_others(weight_format: WeightFormat) -> None:
    packed = pack(weight_format, 480, 256)
    for rows in (5, 40):
        x = randn(rows, 256).bfloat16()
        values, ids = packed.argmax(x)
        x[2, 77], x[3, 5] = torch.nan, torch.inf
        got_values, got_ids = packed.argmax(x)
        assert got_values[2].isnan() and not got_values[3].isfinite()
        others = [row for row in range(rows) if row not in (2, 3)]
        assert same(got_values[others], values[others])
        assert same(got_ids[others], ids[others])
