"""Products by packed groups against the dequantised weights in fp64."""

import pytest
import torch
from torch import Tensor

from backend.linear.registry import create_method
from backend.native import absence, kernels
from backend.quant.quantized_weight import GROUP_SIZE, QuantizedWeight
from tests.backend.stored_weights import Stored, groups_of, randn, stored_in, stored_of

pytestmark = [
    pytest.mark.skipif(kernels is None, reason=absence),
    pytest.mark.usefixtures("level"),
]

CPU = torch.device("cpu")
# A small M multiplies the integers as they are, a large one the bf16 they stand for.
SMALL_M = (1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 21, 32)
LARGE_M = (33, 37, 64, 130, 501)
# Sums are fp32; a bf16 result is rounded by up to 2^-8 of itself, here relative to the largest.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-8 + 1e-5}


def never(x: Tensor) -> Tensor:
    raise AssertionError("the kernel gates, nobody else")


class Product:
    """All forms of a result; called: those of a layer, and of the head."""

    def __init__(self, stored: Stored) -> None:
        self._method = create_method("auto", "avx512_bf16", torch.bfloat16, CPU)
        self._packed = self._method.pack(stored)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._packed.apply(x), self._packed.logits(x)

    def gated(self, x: Tensor) -> Tensor:
        """The first half of the features gates the second."""
        return self._packed.apply_swiglu(x, None, never)

    def argmax(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of a row of scores, and its place."""
        return self._packed.argmax(x)


def check_product(stored: Stored, meant: Tensor, counts: tuple[int, ...]) -> None:
    """Both results, for so many rows, against the product by the weights that are meant."""
    product = Product(stored)
    for rows in counts:
        x = randn(rows, meant.shape[1], seed=rows).bfloat16()
        expected = x.double() @ meant.double().T
        for got in product(x):
            error = (got.double() - expected).abs().max() / expected.abs().max()
            assert got.shape == expected.shape and error < TOLERANCE[got.dtype]


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize(("features", "width"), [(96, 576), (41, 64), (576, 1536), (1, 32)])
def test_gemm_is_that_of_the_dequantised_weights(bits: int, features: int, width: int) -> None:
    stored = stored_of(bits, features, width)
    meant = stored.weight if stored.groups is None else stored.groups.to_dense()
    check_product(stored, meant, SMALL_M)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize(
    ("features", "width"), [(96, 576), (41, 64), (576, 1536), (1, 32), (70, 3136)]
)
def test_large_m_is_multiplied_by_weights_in_bf16(bits: int, features: int, width: int) -> None:
    """Just those that a dense form would hold. The last width is cut into three parts."""
    stored = stored_of(bits, features, width)
    check_product(stored, stored.weight, LARGE_M)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize(("features", "width"), [(96, 576), (1120, 96), (32, 3136)])
def test_swiglu_is_that_of_the_two_halves(bits: int, features: int, width: int) -> None:
    product = Product(stored_of(bits, features, width))
    for rows in (0, *SMALL_M, *LARGE_M):
        x = randn(rows, width, seed=rows).bfloat16()
        gate, up = product(x)[1].double().chunk(2, dim=1)
        got = product.gated(x)
        assert got.shape == (rows, features // 2) and got.dtype == torch.bfloat16
        torch.testing.assert_close(
            got.double(), torch.nn.functional.silu(gate) * up, rtol=2**-8, atol=1e-30
        )


@pytest.mark.parametrize("case", ["odd halves", "bias", "odd width"])
def test_swiglu_that_the_kernel_lacks_follows_the_gemm(case: str) -> None:
    features, width = (48 if case == "odd halves" else 64), (40 if case == "odd width" else 64)
    stored = stored_of(16, features, width)
    method = create_method("auto", "avx512_bf16", torch.bfloat16, CPU)
    packed = method.pack(stored)
    bias = randn(features).bfloat16() if case == "bias" else None
    x = randn(3, width).bfloat16()
    expected = packed.apply(x, bias) + 1
    assert torch.equal(packed.apply_swiglu(x, bias, lambda both: both + 1), expected)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize(("features", "width"), [(1000, 64), (41, 3136), (1, 32)])
@pytest.mark.parametrize("threads", [1, 3])
def test_argmax_is_the_first_of_the_largest_logits(
    bits: int, features: int, width: int, threads: int
) -> None:
    stored = stored_of(bits, features, width)
    groups = stored.groups or QuantizedWeight(stored.weight, stored.weight, None)
    for part in (groups.values, groups.scales, groups.mins):
        if part is not None:  # most words have several others with their very scores
            part[:] = part[torch.arange(features) % 300 % 50]
    product = Product(stored)
    before = kernels.num_threads()
    try:
        kernels.set_num_threads(threads)
        for rows in (0, 1, 7, 16, 17, 70, 300):
            x = randn(rows, width, seed=rows).bfloat16()
            values, places = product.argmax(x)
            scores = product(x)[1].numpy()
            assert places.tolist() == scores.argmax(axis=1).tolist()
            assert values.tolist() == scores.max(axis=1).tolist()
    finally:
        kernels.set_num_threads(before)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("rows", [5, 40])
def test_argmax_of_a_row_with_nan_is_nan_and_spares_others(bits: int, rows: int) -> None:
    product = Product(stored_of(bits, 480, 128))
    x = randn(rows, 128).bfloat16()
    values, places = product.argmax(x)
    x[2, 77], x[3, 5] = torch.nan, torch.inf
    got_values, got_places = product.argmax(x)
    assert got_values[2].isnan() and not got_values[3].isfinite()
    others = [row for row in range(rows) if row not in (2, 3)]
    assert torch.equal(got_values[others], values[others])
    assert torch.equal(got_places[others], places[others])


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize(
    ("rows", "least", "width"), [(32, 1, 576), (501, 40, 576), (260, 40, 3136)]
)
def test_row_is_batch_invariant_and_thread_invariant(
    bits: int, rows: int, least: int, width: int
) -> None:
    product = Product(stored_of(bits, 500, width))
    x = randn(rows, width).bfloat16()
    together = product(x)
    threads = kernels.num_threads()
    try:
        for count in (1, 3):
            kernels.set_num_threads(count)
            for row in range(0, rows - least + 1, max(1, rows // 16)):
                some = slice(row, row + least)
                few = product(x[some])
                assert all(torch.equal(f, t[some]) for f, t in zip(few, together, strict=True))
    finally:
        kernels.set_num_threads(threads)


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_infinities_and_nan_stay_in_their_row(bits: int, rows: int, bad: float) -> None:
    product = Product(stored_of(bits, 48, 128))
    x = randn(rows, 128).bfloat16()
    clean = product(x)
    x[2, 77] = bad
    for got, was in zip(product(x), clean, strict=True):
        assert not got[2].isfinite().any()
        others = [row for row in range(rows) if row != 2]
        assert torch.equal(got[others], was[others])


@pytest.mark.parametrize("bits", [4, 8])
def test_parts_of_a_matrix_make_the_whole(bits: int) -> None:
    """As tensor parallelism cuts it: by features, and by columns in whole groups."""
    groups = groups_of(bits, 96, 576)
    x = randn(3, 576).bfloat16()
    whole = Product(stored_in(groups))(x)[1]

    def part(rows: slice, cols: slice) -> Tensor:
        by_group = slice(cols.start // GROUP_SIZE, cols.stop // GROUP_SIZE)
        mins = groups.mins
        cut = QuantizedWeight(
            groups.values[rows, cols].contiguous(),
            groups.scales[rows, by_group].contiguous(),
            None if mins is None else mins[rows, by_group].contiguous(),
        )
        return Product(stored_in(cut))(x[:, cols])[1]

    every, width = slice(0, 96), slice(0, 576)
    by_features = [part(slice(0, 50), width), part(slice(50, 96), width)]
    assert torch.equal(torch.cat(by_features, dim=1), whole)
    summed = part(every, slice(0, 384)) + part(every, slice(384, 576))
    torch.testing.assert_close(summed, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("features", "width"), [(41, 64), (500, 576)])
def test_embed_reads_the_head_like_a_table(bits: int, features: int, width: int) -> None:
    stored = stored_of(bits, features, width)
    method = create_method("auto", "avx512_bf16", torch.bfloat16, CPU)
    embed = method.pack(stored).embed()
    assert embed is not None
    for count in (0, 1, 300):
        ids = torch.randint(features, (count,), generator=torch.Generator().manual_seed(0))
        assert torch.equal(embed(ids), stored.weight[ids])
    for bad in (-1, features):
        with pytest.raises(IndexError):
            embed(torch.tensor([0, bad]))
    assert method.pack(stored_of(4, 64, 64)).embed() is None
