"""Rules of a Checkpoint that hold for both formats."""

from pathlib import Path

import pytest
import torch

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.config.tensors import tensors_of
from backend.weights.checkpoint import Checkpoint, open_checkpoint
from tests.backend.factories import tiny_config, write_tiny_gguf, write_tiny_llama

FORMATS = ["safetensors", "gguf"]


def write(tmp_path: Path, kind: str, *, tie: bool = True, bias: bool = False) -> Path:
    directory = write_tiny_llama(tmp_path / "tiny", tie=tie, bias=bias)
    if kind == "gguf":
        return write_tiny_gguf(tmp_path / "tiny.gguf", directory)
    return directory


def open_model(path: Path) -> Checkpoint:
    return open_checkpoint(path, load_config(path))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("tie", "bias"), [(True, False), (False, True)])
def test_model_has_every_tensor_of_its_shape(
    tmp_path: Path, kind: str, tie: bool, bias: bool
) -> None:
    path = write(tmp_path, kind, tie=tie, bias=bias)
    checkpoint = open_model(path)
    shapes = {name: checkpoint.shape(name) for name in checkpoint.names()}
    assert shapes == {name: info.shape for name, info in tensors_of(load_config(path)).items()}


def test_gguf_and_safetensors_give_equal_tensors(tmp_path: Path) -> None:
    directory = write_tiny_llama(tmp_path / "tiny", tie=False, bias=True)
    gguf_file = write_tiny_gguf(tmp_path / "tiny.gguf", directory)
    from_hf, from_gguf = open_model(directory), open_model(gguf_file)
    for name in from_hf.names():
        assert torch.equal(from_gguf.read(name), from_hf.read(name)), name


@pytest.mark.parametrize("name", ["q_proj", "k_proj"])
def test_gguf_and_safetensors_give_equal_heads(tmp_path: Path, name: str) -> None:
    directory = write_tiny_llama(tmp_path / "tiny", bias=True)
    gguf_file = write_tiny_gguf(tmp_path / "tiny.gguf", directory)
    heads = slice(8, 24)  # the second and third of 8 rows each
    for kind in ("weight", "bias"):
        full = f"model.layers.1.self_attn.{name}.{kind}"
        expected = open_model(directory).read(full, heads)
        assert torch.equal(open_model(gguf_file).read(full, heads), expected)


@pytest.mark.parametrize("kind", FORMATS)
def test_slice_is_that_part_of_the_whole(tmp_path: Path, kind: str) -> None:
    checkpoint = open_model(write(tmp_path, kind))
    name = "model.layers.0.mlp.down_proj.weight"
    whole = checkpoint.read(name)
    for rows, cols in [(slice(3, 17), slice(None)), (slice(60, 64), slice(32, 96))]:
        assert torch.equal(checkpoint.read(name, rows, cols), whole[rows, cols])
    norm = "model.norm.weight"
    assert torch.equal(checkpoint.read(norm, slice(5, 9)), checkpoint.read(norm)[5:9])
    assert checkpoint.read(name, slice(8, 8)).shape == (0, 160)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_read_belongs_to_the_caller(tmp_path: Path, kind: str) -> None:
    checkpoint = open_model(write(tmp_path, kind))
    for name in ("model.norm.weight", "model.layers.0.mlp.down_proj.weight"):
        original = checkpoint.read(name).clone()
        piece = checkpoint.read(name, slice(None))
        assert piece.is_contiguous()
        piece.zero_()
        assert torch.equal(checkpoint.read(name), original)
    last = checkpoint.read("model.norm.weight")
    checkpoint.close()
    assert torch.isfinite(last).all()


@pytest.mark.parametrize("kind", FORMATS)
def test_shape_that_the_configuration_contradicts_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    wrong = tiny_config(intermediate_size=192)
    with pytest.raises(ModelError, match=r"gate(_proj)?.weight has shape \[160, 64\].*\[192, 64\]"):
        open_checkpoint(path, wrong)


@pytest.mark.parametrize("kind", FORMATS)
def test_unknown_name_is_a_key_error(tmp_path: Path, kind: str) -> None:
    with pytest.raises(KeyError):
        open_model(write(tmp_path, kind)).read("model.layers.9.mlp.up_proj.weight")
