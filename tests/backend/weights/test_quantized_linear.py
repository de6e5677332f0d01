"""Rules of reading quantised directories: what is stored, any slice, blocks where they fit."""

from pathlib import Path

import pytest
import torch

from backend.config.load import load_config
from backend.config.tensors import tensors_of
from backend.quant.weight_format import WeightFormat
from backend.weights.checkpoint import Checkpoint, open_checkpoint
from tests.backend.quantized_layouts import LAYOUTS, QuantizedModel, write_quantized_llama

DOWN = "model.layers.0.mlp.down_proj.weight"  # [64, 160]


def open_model(path: Path) -> Checkpoint:
    return open_checkpoint(path, load_config(path))


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def named(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, QuantizedModel]:
    path = tmp_path_factory.mktemp("layout")
    return request.param, write_quantized_llama(path, LAYOUTS[request.param], num_layers=1)


def test_every_tensor_is_what_it_stands_for(named: tuple[str, QuantizedModel]) -> None:
    name, llama = named
    checkpoint = open_model(llama.directory)
    assert checkpoint.names() == tensors_of(load_config(llama.dense)).keys()
    assert checkpoint.left_over == []
    for tensor, values in llama.tensors.items():
        assert checkpoint.shape(tensor) == values.shape
        assert torch.equal(checkpoint.read(tensor), values), (name, tensor)


@pytest.mark.parametrize(
    ("rows", "cols"),
    [
        (slice(3, 17), slice(None)), (slice(None), slice(32, 96)), (slice(8, 8), slice(None)),
        (slice(5, 6), slice(7, 141)), (slice(60, 64), slice(33, 34)),
    ],
)  # fmt: skip
def test_slice_is_that_part_of_the_whole(
    named: tuple[str, QuantizedModel], rows: slice, cols: slice
) -> None:
    _, llama = named
    checkpoint = open_model(llama.directory)
    piece = checkpoint.read(DOWN, rows, cols)
    assert piece.is_contiguous()
    assert torch.equal(piece, llama.tensors[DOWN][rows, cols])


@pytest.mark.parametrize("cols", [slice(None), slice(64, 160), slice(32, 64)])
def test_blocks_stand_for_the_same(named: tuple[str, QuantizedModel], cols: slice) -> None:
    name, llama = named
    checkpoint, layout = open_model(llama.directory), LAYOUTS[name]
    assert checkpoint.stored_type(DOWN).startswith(layout.words)
    kept = checkpoint.weight_format(DOWN, cols)
    # 32 columns of five groups would fill five blocks.
    is_cut_up = "any order" in name and cols == slice(32, 64)
    assert kept is (WeightFormat.DENSE if is_cut_up else layout.format)
    if kept is WeightFormat.DENSE:
        with pytest.raises(ValueError, match="are not whole blocks"):
            checkpoint.read_quantized(DOWN, slice(None), cols)
        return
    blocks = checkpoint.read_quantized(DOWN, slice(5, 41), cols)
    order = checkpoint.column_order(DOWN, cols)
    expected, dense = llama.tensors[DOWN][5:41, cols], blocks.to_dense()
    assert (order is not None) == ("any order" in name)
    if order is not None:
        assert checkpoint.block_columns(DOWN, cols).ordered == len(order) == blocks.shape[1]
        is_column = order < expected.shape[1]
        assert int(is_column.sum()) == expected.shape[1]
        dense, expected = dense[:, is_column], expected[:, order[is_column].long()]
    if layout.format not in (WeightFormat.Q4_1, WeightFormat.Q8_MINS):
        assert torch.equal(dense, expected)
        return
    # The minimum, of up to 15 scales, is rounded to 11 bits; scales are a 15th of the range or so.
    largest = llama.tensors[DOWN].abs().max()
    assert float((dense - expected).abs().max()) <= float(largest) * 2**-11


def test_columns_that_cut_a_block_are_dense(named: tuple[str, QuantizedModel]) -> None:
    name, llama = named
    checkpoint = open_model(llama.directory)
    for cols in (slice(16, 64), slice(32, 80)):
        if "any order" in name:  # there a block is filled up
            continue
        assert checkpoint.weight_format(DOWN, cols) is WeightFormat.DENSE
