"""Rules of reading GGUF tensors: every type, any slice, rotary rows in torch's order."""

import random
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from backend.config.errors import ModelError
from backend.config.ggml_type import GGMLType
from backend.config.load import load_config
from backend.config.sources import Names
from backend.config.tensors import EMBEDDING, tensors_of
from backend.quant.weight_format import BLOCK_FORMATS, WeightFormat
from backend.weights import gguf as weights_gguf
from backend.weights.checkpoint import open_checkpoint
from backend.weights.gguf import GGUFCheckpoint
from gateway.hub import default_model
from tests.backend.factories import random_tensors, tiny_config, write_tiny_gguf, write_tiny_llama

NUM_ROWS, NUM_COLS = 37, 1024
TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TYPES = sorted(GGMLType.__members__)


def random_blocks(kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """Return raw rows of any type. No exponent is all ones, so that no scale is NaN or infinite."""
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(int(kind))
    shape = (NUM_ROWS, NUM_COLS // block_size * block_bytes)
    return rng.integers(0, 256, shape, dtype=np.uint8) & np.uint8(0xBF)


@pytest.fixture(scope="module")
def every_type(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one more matrix of each type, named after it."""
    tmp_path = tmp_path_factory.mktemp("types")
    kinds = [GGMLQuantizationType[name] for name in TYPES]
    extra = {kind.name: (random_blocks(kind), kind) for kind in kinds}
    return write_tiny_gguf(tmp_path / "tiny.gguf", write_tiny_llama(tmp_path / "tiny"), extra=extra)


def open_matrix(every_type: Path, name: str) -> GGUFCheckpoint:
    """Open the file as a model whose embedding is the matrix of a type."""
    top: dict[str, str | tuple[str, ...]] = {"model.embed_tokens": name}
    config = tiny_config(vocab_size=NUM_ROWS, hidden_size=NUM_COLS)
    return GGUFCheckpoint(every_type, config, Names(("",), "blk.{i}.", top, {}))


def test_promised_types_are_supported() -> None:
    promised = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K"
    assert set(promised.split()) <= set(TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_any_slice_equals_that_part_of_the_whole_dequantised(
    every_type: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so small that several chunks of rows are decoded
    monkeypatch.setattr(weights_gguf, "_CHUNK", 8 * NUM_COLS)
    kind = GGMLQuantizationType[name]
    whole = torch.from_numpy(np.array(dequantize(random_blocks(kind), kind)))
    checkpoint = open_matrix(every_type, name)
    assert checkpoint.shape(EMBEDDING) == (NUM_ROWS, NUM_COLS)
    rng = random.Random(name)
    slices = [(slice(None), slice(None)), (slice(4, 4), slice(None))]
    for unit in (1, 32, 32, 256, 256):  # within blocks, and at the borders of both sizes
        rows = slice(*sorted(rng.sample(range(NUM_ROWS + 1), 2)))
        cols = slice(*(unit * end for end in sorted(rng.sample(range(NUM_COLS // unit + 1), 2))))
        slices += [(rows, cols), (rows, slice(None)), (slice(None), cols)]
    for rows, cols in slices:
        piece = checkpoint.read(EMBEDDING, rows, cols)
        assert piece.dtype is TORCH_DTYPES.get(name, torch.float32)
        assert piece.is_contiguous()
        assert torch.equal(piece.float(), whole[rows, cols])


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_blocks_are_the_files_bytes(every_type: Path, weight_format: WeightFormat) -> None:
    name = weight_format.name
    checkpoint = open_matrix(every_type, name)
    rows, cols = slice(3, 21), slice(256, 768)
    quantized = checkpoint.read_quantized(EMBEDDING, rows, cols)
    assert checkpoint.weight_format(EMBEDDING, cols) is quantized.format is weight_format
    assert checkpoint.stored_type(EMBEDDING) == name
    row_bytes = slice(*(end // weight_format.block_size * weight_format.block_bytes
                        for end in (cols.start, cols.stop)))  # fmt: skip
    assert np.array_equal(quantized.blocks, random_blocks(weight_format.ggml_type)[rows, row_bytes])
    assert torch.equal(quantized.to_dense(), checkpoint.read(EMBEDDING, rows, cols))


def test_whole_rows_are_a_view_of_the_file(every_type: Path) -> None:
    checkpoint = open_matrix(every_type, "Q4_K")
    assert not checkpoint.read_quantized(EMBEDDING, slice(3, 21)).blocks.flags.owndata


@pytest.mark.parametrize("weight_format", BLOCK_FORMATS)
def test_slice_that_cuts_a_block_is_dense(every_type: Path, weight_format: WeightFormat) -> None:
    checkpoint = open_matrix(every_type, weight_format.name)
    size = weight_format.block_size
    for cols in (slice(size // 2, 512), slice(512, 1024 - size // 2)):
        assert checkpoint.weight_format(EMBEDDING, cols) is WeightFormat.DENSE
        with pytest.raises(ValueError, match=f"of {weight_format.name} are not whole blocks"):
            checkpoint.read_quantized(EMBEDDING, slice(None), cols)


@pytest.mark.parametrize("name", sorted(set(TYPES) - {kind.name for kind in BLOCK_FORMATS}))
def test_types_without_a_kernel_are_dense(every_type: Path, name: str) -> None:
    checkpoint = open_matrix(every_type, name)
    assert checkpoint.weight_format(EMBEDDING) is WeightFormat.DENSE
    assert checkpoint.stored_type(EMBEDDING) == name


def test_only_the_blocks_of_the_slice_are_dequantised(
    every_type: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(raw: npt.NDArray[np.uint8], kind: GGMLQuantizationType) -> npt.NDArray[np.float32]:
        seen.append(raw.shape)
        values: npt.NDArray[np.float32] = dequantize(raw, kind)
        return values

    monkeypatch.setattr(weights_gguf, "dequantize", spy)
    checkpoint = open_matrix(every_type, "Q4_0")
    checkpoint.read(EMBEDDING, slice(3, 8), slice(64, 128))
    assert seen == [(5, 2 * 18)]


@pytest.mark.parametrize("qtype", ["Q8_0", "Q4_1", "F16", "BF16"])
def test_quantised_rotary_rows_are_in_torchs_order(tmp_path: Path, qtype: str) -> None:
    directory = write_tiny_llama(tmp_path / "tiny", seed=5)
    path = write_tiny_gguf(tmp_path / "tiny.gguf", directory, qtype)
    config = load_config(path)
    checkpoint = open_checkpoint(path, config)
    kind = GGMLQuantizationType[qtype]
    for name, tensor in random_tensors(tiny_config(), seed=5).items():
        if "self_attn" not in name:
            continue
        # blocks lie along rows, so that quantising commutes with reordering rows
        expected = np.array(dequantize(gguf.quants.quantize(tensor.numpy(), kind), kind))
        assert torch.equal(checkpoint.read(name).float(), torch.from_numpy(expected)), name
        heads = slice(8, 24)
        assert np.array_equal(checkpoint.read(name, heads).float().numpy(), expected[heads])


def test_rotary_rows_are_cut_between_heads_only(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", write_tiny_llama(tmp_path / "tiny"))
    checkpoint = open_checkpoint(path, load_config(path))
    with pytest.raises(ValueError, match="rows 4:16 are not heads of 8"):
        checkpoint.read("model.layers.0.self_attn.q_proj.weight", slice(4, 16))


def test_rotary_table_is_no_weight_and_an_unknown_tensor_stays(tmp_path: Path) -> None:
    directory = write_tiny_llama(tmp_path / "tiny")
    row = np.zeros((1, 16), np.uint8)
    extra = {
        "rope_freqs.weight": (np.ones(4, np.float32).view(np.uint8), GGMLQuantizationType.F32),
        "blk.0.attn_rot_embd.weight": (row, GGMLQuantizationType.F32),
        "blk.0.attn_sinks.weight": (row, GGMLQuantizationType.F32),
    }
    path = write_tiny_gguf(tmp_path / "tiny.gguf", directory, extra=extra)
    with pytest.raises(ModelError, match=r"does not use: blk\.0\.attn_sinks\.weight\n.*directory"):
        open_checkpoint(path, load_config(path))


def test_scale_beside_a_weight_multiplies_it(tmp_path: Path) -> None:
    """Files of NVFP4 have one; what they multiply activations by changes nothing here."""
    directory = write_tiny_llama(tmp_path / "tiny")
    name = "model.layers.1.mlp.up_proj.weight"
    scale = np.array([0.75], np.float32).view(np.uint8)
    extra = {
        f"blk.1.ffn_up.{kind}": (scale, GGMLQuantizationType.F32)
        for kind in ("scale", "input_scale")
    }
    path = write_tiny_gguf(tmp_path / "tiny.gguf", directory, "Q8_0", extra=extra)
    plain = write_tiny_gguf(tmp_path / "plain.gguf", directory, "Q8_0")
    checkpoint = open_checkpoint(path, load_config(path))
    expected = open_checkpoint(plain, load_config(plain)).read(name) * 0.75
    assert torch.equal(checkpoint.read(name), expected)
    assert torch.equal(checkpoint.read(name, slice(3, 9), slice(32, 64)), expected[3:9, 32:64])
    assert checkpoint.weight_format(name) is WeightFormat.DENSE
    assert checkpoint.weight_format("model.layers.0.mlp.up_proj.weight") is WeightFormat.Q8_0


def test_default_model_is_complete() -> None:
    path = default_model()
    config = load_config(path)
    checkpoint = open_checkpoint(path, config)
    assert checkpoint.names() == tensors_of(config).keys()
    assert len(checkpoint.names()) == 272
    q_rows = checkpoint.read("model.layers.29.self_attn.q_proj.weight", slice(64, 128))
    assert q_rows.shape == (64, 576)
    assert 0.01 < q_rows.std() < 1.0
