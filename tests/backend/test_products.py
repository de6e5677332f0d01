"""Products by packed groups against the dequantised weights in fp64."""

import pytest
import torch
from torch import Tensor

from backend.choices import pick_method
from backend.native import absence, kernels
from backend.quant import create_method
from backend.quant.groups import GROUP_SIZE, Groups, quantize
from backend.settings import EngineSettings
from tests.backend.stored import Stored

needs_kernels = pytest.mark.skipif(kernels is None, reason=absence)

CPU = torch.device("cpu")
# Of these few the integers are multiplied as they are, of these many as bf16.
FEW_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 21, 32)
MANY_ROWS = (33, 37, 64, 130, 501)
# Sums are fp32; a bf16 result is rounded by up to 2^-8 of itself, here relative to the largest.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-8 + 1e-5}


@pytest.fixture(autouse=True)
def no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.quant.native.has_tiles", lambda: False)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def groups_of(bits: int, features: int, width: int) -> Groups:
    if bits == 4:
        return quantize(randn(features, width))
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(-128, 128, (features, width), generator=generator).to(torch.int8)
    return Groups(values, randn(features, width // GROUP_SIZE).half().float(), None)


def never(x: Tensor) -> Tensor:
    raise AssertionError("the kernel gates, nobody else")


class Product:
    """Both forms of a result: of a layer, and of the head."""

    def __init__(self, groups: Groups) -> None:
        self._method = create_method("native", torch.bfloat16, CPU)
        self._packed = self._method.pack(Stored(groups.to_dense().bfloat16(), groups))

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._method.apply(x, self._packed, None), self._method.score(x, self._packed)

    def gated(self, x: Tensor) -> Tensor:
        """The first half of the features gates the second."""
        return self._method.apply_gated(x, self._packed, None, never)

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of a row of scores, and its place."""
        return self._method.best(x, self._packed)


def check_product(groups: Groups, meant: Tensor, counts: tuple[int, ...]) -> None:
    """Both results, for so many rows, against the product by the weights that are meant."""
    product = Product(groups)
    for rows in counts:
        x = randn(rows, meant.shape[1], seed=rows).bfloat16()
        expected = x.double() @ meant.double().T
        for got in product(x):
            error = (got.double() - expected).abs().max() / expected.abs().max()
            assert got.shape == expected.shape and error < TOLERANCE[got.dtype]


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("features", "width"), [(96, 576), (41, 64), (576, 1536), (1, 32)])
def test_the_product_is_that_of_the_dequantised_weights(
    bits: int, features: int, width: int
) -> None:
    groups = groups_of(bits, features, width)
    check_product(groups, groups.to_dense(), FEW_ROWS)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("features", "width"), [(96, 576), (41, 64), (576, 1536), (1, 32), (70, 3136)]
)
def test_many_rows_are_multiplied_by_weights_in_bf16(bits: int, features: int, width: int) -> None:
    """Just those that a dense form would hold. The last width is cut into three parts."""
    groups = groups_of(bits, features, width)
    check_product(groups, groups.to_dense().bfloat16(), MANY_ROWS)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("features", "width"), [(96, 576), (1120, 96), (32, 3136)])
def test_a_gated_product_is_that_of_the_two_halves(bits: int, features: int, width: int) -> None:
    product = Product(groups_of(bits, features, width))
    for rows in (0, *FEW_ROWS, *MANY_ROWS):
        x = randn(rows, width, seed=rows).bfloat16()
        gate, up = product(x)[1].double().chunk(2, dim=1)
        got = product.gated(x)
        assert got.shape == (rows, features // 2) and got.dtype == torch.bfloat16
        torch.testing.assert_close(
            got.double(), torch.nn.functional.silu(gate) * up, rtol=2**-8, atol=1e-30
        )


@needs_kernels
@pytest.mark.parametrize("case", ["odd halves", "bias", "no groups"])
def test_what_the_kernel_cannot_gate_is_gated_after_the_product(case: str) -> None:
    groups = groups_of(4, 48 if case == "odd halves" else 64, 64)
    weight = groups.to_dense().bfloat16()
    method = create_method("native", torch.bfloat16, CPU)
    packed = method.pack(Stored(weight, None if case == "no groups" else groups))
    bias = randn(len(weight)).bfloat16() if case == "bias" else None
    x = randn(3, 64).bfloat16()
    expected = method.apply(x, packed, bias) + 1
    assert torch.equal(method.apply_gated(x, packed, bias, lambda both: both + 1), expected)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("features", "width"), [(1000, 64), (41, 3136), (1, 32)])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_best_is_the_largest_of_the_scores_and_the_first_of_equals(
    bits: int, features: int, width: int, threads: int
) -> None:
    groups = groups_of(bits, features, width)
    for part in (groups.values, groups.scales, groups.minimums):
        if part is not None:  # most words have several others with their very scores
            part[:] = part[torch.arange(features) % 300 % 50]
    product = Product(groups)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for rows in (0, 1, 7, 16, 17, 70, 300):
            x = randn(rows, width, seed=rows).bfloat16()
            values, places = product.best(x)
            scores = product(x)[1].numpy()
            assert places.tolist() == scores.argmax(axis=1).tolist()
            assert values.tolist() == scores.max(axis=1).tolist()
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [5, 40])
def test_the_best_of_a_row_with_nan_is_nan_and_of_the_others_what_it_was(
    bits: int, rows: int
) -> None:
    product = Product(groups_of(bits, 480, 128))
    x = randn(rows, 128).bfloat16()
    values, places = product.best(x)
    x[2, 77], x[3, 5] = torch.nan, torch.inf
    got_values, got_places = product.best(x)
    assert got_values[2].isnan() and not got_values[3].isfinite()
    others = [row for row in range(rows) if row not in (2, 3)]
    assert torch.equal(got_values[others], values[others])
    assert torch.equal(got_places[others], places[others])


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("rows", "least", "width"), [(32, 1, 576), (501, 40, 576), (260, 40, 3136)]
)
def test_a_row_is_the_same_in_any_company_and_on_any_number_of_threads(
    bits: int, rows: int, least: int, width: int
) -> None:
    product = Product(groups_of(bits, 500, width))
    x = randn(rows, width).bfloat16()
    together = product(x)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            for row in range(0, rows - least + 1, max(1, rows // 16)):
                some = slice(row, row + least)
                few = product(x[some])
                assert all(torch.equal(f, t[some]) for f, t in zip(few, together, strict=True))
    finally:
        torch.set_num_threads(threads)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rows", [5, 40])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_in_its_row(bits: int, rows: int, bad: float) -> None:
    product = Product(groups_of(bits, 48, 128))
    x = randn(rows, 128).bfloat16()
    clean = product(x)
    x[2, 77] = bad
    for got, was in zip(product(x), clean, strict=True):
        assert not got[2].isfinite().any()
        others = [row for row in range(rows) if row != 2]
        assert torch.equal(got[others], was[others])


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
def test_parts_of_a_matrix_make_the_whole(bits: int) -> None:
    """As tensor parallelism cuts it: by features, and by columns in whole groups."""
    groups = groups_of(bits, 96, 576)
    x = randn(3, 576).bfloat16()
    whole = Product(groups)(x)[1]

    def part(rows: slice, cols: slice) -> Tensor:
        by_group = slice(cols.start // GROUP_SIZE, cols.stop // GROUP_SIZE)
        minimums = groups.minimums
        cut = Groups(
            groups.values[rows, cols].contiguous(),
            groups.scales[rows, by_group].contiguous(),
            None if minimums is None else minimums[rows, by_group].contiguous(),
        )
        return Product(cut)(x[:, cols])[1]

    every, width = slice(0, 96), slice(0, 576)
    by_features = [part(slice(0, 50), width), part(slice(50, 96), width)]
    assert torch.equal(torch.cat(by_features, dim=1), whole)
    summed = part(every, slice(0, 384)) + part(every, slice(384, 576))
    torch.testing.assert_close(summed, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


@needs_kernels
@pytest.mark.parametrize(("features", "width"), [(41, 64), (500, 576)])
def test_words_are_looked_up_in_the_head_as_in_a_table(features: int, width: int) -> None:
    groups = groups_of(8, features, width)
    table = groups.to_dense().bfloat16()
    method = create_method("native", torch.bfloat16, CPU)
    look_up = method.look_up(method.pack(Stored(table, groups)))
    assert look_up is not None
    for count in (0, 1, 300):
        ids = torch.randint(features, (count,), generator=torch.Generator().manual_seed(0))
        assert torch.equal(look_up(ids), table[ids])
    for bad in (-1, features):
        with pytest.raises(IndexError):
            look_up(torch.tensor([0, bad]))
    assert method.look_up(method.pack(Stored(table))) is None


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
def test_weights_rounded_at_load_are_the_same_for_few_rows_and_many(bits: int) -> None:
    method = create_method(f"native_int{bits}", torch.bfloat16, CPU)
    packed = method.pack(Stored(randn(96, 576).bfloat16()))
    units = torch.eye(576).bfloat16()
    few = method.apply(units[: FEW_ROWS[-1]], packed, None)
    assert torch.equal(few, method.apply(units, packed, None)[: len(few)])


@needs_kernels
@pytest.mark.parametrize("name", ["native", "native_int4", "native_int8"])
def test_a_dense_form_is_kept_only_beside_amx(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = groups_of(4, 96, 576)
    stored = Stored(groups.to_dense().bfloat16(), groups)
    x = randn(64, 576).bfloat16()
    results = []
    for has_tiles in (False, True):
        monkeypatch.setattr("backend.quant.native.has_tiles", lambda has=has_tiles: has)
        method = create_method(name, torch.bfloat16, CPU)
        packed = method.pack(stored)
        kept = method.kept(4)
        assert method.size_bytes(packed) == 96 * 576 * (kept.few_bits + 16 * kept.is_dense) // 8
        assert (packed.dense is not None) == has_tiles == kept.is_dense
        results.append((method.apply(x[:1], packed, None), method.apply(x, packed, None)))
    (few, many), (few_beside, many_beside) = results
    assert torch.equal(few, few_beside)
    # Sums in another order: a bf16 result may be the neighbour of the other.
    torch.testing.assert_close(many, many_beside, rtol=2**-7, atol=2**-6)


@needs_kernels
@pytest.mark.parametrize("bits", [4, 8])
def test_groups_of_the_file_are_not_rounded_again(bits: int) -> None:
    groups = groups_of(4, 96, 576)
    packed = [
        create_method(name, torch.bfloat16, CPU).pack(Stored(groups.to_dense().bfloat16(), groups))
        for name in ("native", f"native_int{bits}")
    ]
    assert torch.equal(packed[0].few_bits.values, packed[1].few_bits.values)


@pytest.mark.parametrize("quantization", ["auto", "int4", "int8", "none"])
@pytest.mark.parametrize("choice", ["auto", "native", "torch"])
def test_groups_are_multiplied_by_our_kernels_where_they_are(
    quantization: str, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.choices.few_bit_kernels_work", lambda: True)
    torchs = {"auto": "grouped", "int4": "int4", "int8": "int8", "none": "dense"}
    ours = {"auto": "native", "int4": "native_int4", "int8": "native_int8", "none": "dense"}
    settings = EngineSettings(model="m", quantization=quantization, kernels=choice)  # type: ignore[arg-type]
    for present in (object(), None):
        monkeypatch.setattr("backend.choices.kernels", present)
        expected = ours if present and choice != "torch" else torchs
        assert pick_method(settings, torch.bfloat16, CPU) == expected[quantization]
    if quantization in ("auto", "none"):
        assert pick_method(settings, torch.float32, CPU) == "dense"
