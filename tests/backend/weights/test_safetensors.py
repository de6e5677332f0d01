"""Rules of reading safetensors files and their shards."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from backend.config.errors import ModelError
from backend.config.load import load_config
from backend.config.tensors import tensors_of
from backend.weights.checkpoint import open_checkpoint
from tests.backend.factories import random_tensors, tiny_config, write_tiny_llama


def shard(directory: Path) -> None:
    """Split model.safetensors into two files and an index."""
    single = directory / "model.safetensors"
    tensors = safetensors.torch.load_file(single)
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        safetensors.torch.save_file({name: tensors[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    single.unlink()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_keep_the_stored_dtype(tmp_path: Path, dtype: str) -> None:
    path = write_tiny_llama(tmp_path, dtype=dtype, seed=3)
    checkpoint = open_checkpoint(path, load_config(path))
    for name, expected in random_tensors(tiny_config(stored_dtype=dtype), seed=3).items():
        assert checkpoint.read(name).dtype is getattr(torch, dtype)
        assert torch.equal(checkpoint.read(name), expected)


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path)
    shard(path)
    config = load_config(path)
    checkpoint = open_checkpoint(path, config)
    assert checkpoint.names() == tensors_of(config).keys()
    for name, expected in random_tensors(tiny_config()).items():
        assert torch.equal(checkpoint.read(name), expected)


def test_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path)
    shard(path)
    first, second = sorted(path.glob("model-*.safetensors"))
    both = safetensors.torch.load_file(second) | safetensors.torch.load_file(first)
    safetensors.torch.save_file(both, second)
    with pytest.raises(ModelError, match="two shards hold tensor"):
        open_checkpoint(path, load_config(path))


def test_derived_and_repeated_tensors_are_left_out(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path)
    tensors = random_tensors(tiny_config())
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    tensors["model.extra"] = torch.zeros(4)
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    with pytest.raises(ModelError, match=r"does not use: model\.extra\n"):
        open_checkpoint(path, load_config(path))
    del tensors["model.extra"]
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    assert open_checkpoint(path, load_config(path)).names() == tensors_of(tiny_config()).keys()


def test_head_that_is_not_the_embedding_counts(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path)
    tensors = random_tensors(tiny_config())
    head = tensors["lm_head.weight"] = 2 * tensors["model.embed_tokens.weight"]
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    config = load_config(path)
    assert not config.tie_word_embeddings
    assert torch.equal(open_checkpoint(path, config).read("lm_head.weight"), head)


def test_one_tensor_of_another_dtype_is_refused_when_read(tmp_path: Path) -> None:
    path = write_tiny_llama(tmp_path)
    tensors = random_tensors(tiny_config())
    tensors["model.norm.weight"] = torch.ones(64, dtype=torch.float8_e5m2)
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    checkpoint = open_checkpoint(path, load_config(path))
    with pytest.raises(ModelError, match=r"tensor model\.norm\.weight: weights stored as F8_E5M2"):
        checkpoint.read("model.norm.weight")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lm_head.weight", "config.json must say so: tie_word_embeddings true"),
        ("model.norm.weight", "incomplete, or those of another model: download them again"),
    ],
)
def test_missing_tensor_is_named_with_what_would_serve(
    tmp_path: Path, name: str, hint: str
) -> None:
    path = write_tiny_llama(tmp_path, tie=False)
    tensors = random_tensors(tiny_config(tie_word_embeddings=False))
    del tensors[name]
    safetensors.torch.save_file(tensors, path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        open_checkpoint(path, load_config(path))
    assert f"has no tensor {name}, which a llama model of this configuration needs\n" in str(
        caught.value
    )
    assert hint in str(caught.value)


def write_raw(path: Path, header: object, num_bytes: int, length: int | None = None) -> None:
    """Write a safetensors file by hand. header: bytes as they are, anything else as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + bytes(num_bytes))


def tensor(start: int, end: int, shape: list[int] | None = None) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape or [(end - start) // 4], "data_offsets": [start, end]}


CORRUPT: dict[str, tuple[object, int, int | None]] = {
    "header longer than the file": ({"a": tensor(0, 8)}, 8, 1 << 20),
    "header of 2^63 bytes": ({"a": tensor(0, 8)}, 8, 1 << 63),
    "header over the library's cap": (b"{}" + b" " * (100_000_001 - 2), 0, None),
    "no header": (b"", 0, 0),
    "header that is no JSON": (b"{'a': 1}", 8, None),
    "header nested deeply": (b'{"a":' * 5000 + b"1" + b"}" * 5000, 8, None),
    "offsets beyond the file": ({"a": tensor(0, 64)}, 8, None),
    "offsets backwards": ({"a": tensor(8, 0, [0])}, 8, None),
    "offsets below zero": ({"a": tensor(-8, 0)}, 8, None),
    "tensors that overlap": ({"a": tensor(0, 8), "b": tensor(4, 12)}, 12, None),
    "a hole between tensors": ({"a": tensor(0, 4), "b": tensor(8, 12)}, 12, None),
    "bytes that belong to none": ({"a": tensor(0, 4)}, 64, None),
    "a shape of other size": ({"a": tensor(0, 8, [3])}, 8, None),
    "a shape that overflows": ({"a": tensor(0, 8, [1 << 62, 8])}, 8, None),
}


@pytest.mark.parametrize(("header", "num_bytes", "length"), CORRUPT.values(), ids=CORRUPT)
def test_corrupt_file_is_refused_before_anything_is_read(
    tmp_path: Path, header: object, num_bytes: int, length: int | None
) -> None:
    path = write_tiny_llama(tmp_path)
    config = load_config(path)
    write_raw(path / "model.safetensors", header, num_bytes, length)
    with pytest.raises(ModelError, match="not a safetensors file"):
        open_checkpoint(path, config)
