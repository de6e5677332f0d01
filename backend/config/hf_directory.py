"""Finds and opens the files of a Hugging Face directory.

Owns what may be read there: JSON and safetensors beside each other, never a pickle, never a file
elsewhere. Knows no model. No torch. Called by `hf_config` and `weights.safetensors`.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from safetensors import SafetensorError, safe_open

from backend.config.errors import ModelError
from backend.config.mxfp4_stacks import find_stacks
from backend.config.quantization import Quantization
from backend.config.quantized_linears import FileTensor, Quantized, find_linears, present

# safetensors' name -> torch's, of the dtypes that can be computed with.
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
UNSUPPORTED_DTYPE = f"are not supported; {', '.join(DTYPES)} are"

# Tensors that no model has unless its weights are quantised.
_OF_QUANTIZED = (".qweight", ".weight_packed", ".weight_scale", ".weight_scale_inv", "_blocks")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_T = TypeVar("_T")
# Of two tensors so many bytes at a time are compared.
_PART_BYTES = 1 << 22


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def read_json(path: Path, kind: type[_T]) -> _T:
    """Decode a JSON file. Raises ModelError naming the file and the field that is wrong."""
    raw = path.read_bytes()
    try:
        # Python writes a float that is infinite so, which is no JSON.
        if b"Infinity" in raw:
            return msgspec.convert(json.loads(raw), type=kind)
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as exc:
        raise ModelError(f"{path}: {exc}") from None
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise ModelError(f"{path}: not valid JSON: {exc}") from None


def find_shards(directory: Path) -> list[Path]:
    """Return the safetensors files of a directory: one, or those that its index names."""
    single = directory / "model.safetensors"
    if single.exists():
        return [single]
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        raise ModelError(_no_weights(directory))
    shards = []
    for name in sorted(set(read_json(index, _Index).weight_map.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: names {name!r}; only *.safetensors beside it are read")
        if not (directory / name).exists():
            raise ModelError(f"{index}: names {name}, which is missing")
        shards.append(directory / name)
    if not shards:
        raise ModelError(f"{index}: names no file")
    return shards


def open_shard(path: Path, framework: str) -> Any:
    """Open a safetensors file. The library checks its header against its size."""
    try:
        return safe_open(path, framework=framework)
    except SafetensorError as exc:
        reason = str(exc).removeprefix("Error while deserializing header: ")
        raise ModelError(
            f"{path}: truncated or not a safetensors file ({reason}). Download it again."
        ) from None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the safetensors files of a directory hold.

    shapes: of each tensor; a quantised linear is one, `X.weight`. dtype: what most elements have,
    or how they are quantised. shards: the file of each tensor that is in one.
    """

    shapes: dict[str, tuple[int, ...]]
    dtype: str
    shards: dict[str, Path]

    def are_equal(self, name: str, other: str) -> bool:
        """Whether two tensors hold the same numbers."""
        if self.shapes[name] != self.shapes[other]:
            return False
        if not {name, other} <= self.shards.keys():
            return False  # one is quantised
        dtype, parts = _stored(self.shards[name], name)
        other_dtype, other_parts = _stored(self.shards[other], other)
        return dtype == other_dtype and all(
            part == theirs for part, theirs in zip(parts, other_parts, strict=True)
        )


def _stored(path: Path, name: str) -> tuple[str, Iterator[bytes]]:
    """Return a tensor's dtype and its bytes, a part at a time, since it may be gigabytes.

    The library has checked the file, but gives bfloat16 to torch alone, which gateways go without.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entry = msgspec.json.decode(file.read(size))[name]
    begin, end = (8 + size + offset for offset in entry["data_offsets"])
    return entry["dtype"], _parts(path, begin, end)


def _parts(path: Path, begin: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(begin)
        for place in range(begin, end, _PART_BYTES):
            yield file.read(min(_PART_BYTES, end - place))


def take_inventory(directory: Path, quantization: Quantization | None = None) -> Inventory:
    """Look at the headers of the safetensors files of a directory. Raises ModelError."""
    tensors: dict[str, FileTensor] = {}
    shards: dict[str, Path] = {}
    for path in find_shards(directory):
        with open_shard(path, "numpy") as shard:
            for name in shard.keys():
                tensors[name] = file_tensor(shard.get_slice(name))
                shards[name] = path
    if not tensors:
        raise ModelError(f"{directory}: its safetensors files hold no tensors")
    if quantization is not None:
        return _quantized_inventory(directory, quantization, tensors, shards)
    if quantized := [name for name in tensors if name.endswith(_OF_QUANTIZED)]:
        raise ModelError(
            f"{directory}: tensor {quantized[0]} is of quantised weights\n"
            "quantization_config of config.json must say how they are"
        )
    num_elements: Counter[str] = Counter()
    for tensor in tensors.values():
        num_elements[tensor.dtype] += prod(tensor.shape)
    dtype = num_elements.most_common(1)[0][0]
    if dtype not in DTYPES:
        raise ModelError(f"{directory}: weights stored as {dtype} {UNSUPPORTED_DTYPE}")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return Inventory(shapes, DTYPES[dtype], shards)


def file_tensor(tensor: Any) -> FileTensor:
    """Return what the header says of a tensor, which is opened and not read."""
    return FileTensor(tensor.get_dtype(), tuple(tensor.get_shape()))


def _quantized_inventory(
    directory: Path,
    quantization: Quantization,
    tensors: dict[str, FileTensor],
    shards: dict[str, Path],
) -> Inventory:
    try:
        linears: dict[str, Quantized] = dict(find_linears(quantization, tensors))
        if quantization.method == "mxfp4":
            linears |= find_stacks(tensors)
    except ModelError as exc:
        raise ModelError(f"{directory}: {exc}") from None
    if not linears:
        raise ModelError(
            f"{directory}: config.json says {quantization.name}, but no tensor is quantised so"
        )
    whole = {name: path for name, path in shards.items() if name not in linears}
    return Inventory(present(linears, tensors), quantization.name, whole)


def _no_weights(directory: Path) -> str:
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        return (
            f"{directory}: has {pickles[0]} but no safetensors. Pickles can run code and are never"
            " loaded;\nconvert it with save_pretrained(safe_serialization=True) of transformers"
        )
    return f"{directory}: has neither model.safetensors nor model.safetensors.index.json"
