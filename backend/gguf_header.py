"""Reads the front of a GGUF file: metadata, and where each tensor lies.

Knows the container only: no architecture, no tensor data, no torch. Everything is checked against
the file's size here, so that a reader of tensors never runs past its end.
gguf's own reader makes a numpy array of every vocabulary entry, 1.8 s for 49k tokens on one slow
core; this one steps over long arrays, 0.01 s. Called by `gguf_config` and `weights.gguf`.
"""

import mmap
import re
import struct
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.quants import dequantize

from backend.config import ModelError

Value = int | float | bool | str | tuple[int | float | bool, ...]

# Per-layer numbers are kept, vocabularies (tokens, scores, merges) are not.
MAX_ARRAY = 1024

_SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}
_PART_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Where one tensor lies. shape: torch's order, [out, in]; offset: from the file's start."""

    name: str
    qtype: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    num_bytes: int

    @property
    def row_bytes(self) -> int:
        block_size, block_bytes = GGML_QUANT_SIZES[self.qtype]
        return int(self.shape[-1] // block_size * block_bytes)


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata and tensors of one file; arrays of strings or over MAX_ARRAY numbers left out."""

    path: Path
    metadata: dict[str, Value]
    tensors: dict[str, GGUFTensor]


def read_headers(path: Path) -> list[GGUFHeader]:
    """Read the header of a file, or of every part of a split model whose first part `path` is."""
    first = read_header(path)
    count = first.metadata.get("split.count", 1)
    if count == 1:
        return [first]
    name = _PART_NAME.fullmatch(path.name)
    if name is None or not isinstance(count, int) or int(name["count"]) != count:
        raise ModelError(
            f"{path}: one of {count} parts, but not named ...-00001-of-{count:0>5}.gguf"
        )
    parts = [
        path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf")
        for number in range(1, count + 1)
    ]
    if path != parts[0]:
        raise ModelError(
            f"{path}: part {int(name['number'])} of {count}; give the first, {parts[0]}"
        )
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise ModelError(f"{path}: {len(missing)} of {count} parts are missing: {missing[0]}")
    return [first, *map(read_header, parts[1:])]


def read_header(path: Path) -> GGUFHeader:
    """Read and check the front of one file. Raises ModelError naming what is wrong with it."""
    with path.open("rb") as file:
        start = file.read(8)
        _check_start(path, start)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Parser(path, data).header()
            except _PastEnd:
                raise ModelError(
                    f"{path}: truncated: its header runs past the {len(data):,} bytes of the file"
                ) from None


@cache
def supported_types() -> frozenset[GGMLQuantizationType]:
    """Return the tensor types that gguf dequantises."""
    return frozenset(qtype for qtype in GGML_QUANT_SIZES if _is_dequantizable(qtype))


def _is_dequantizable(qtype: GGMLQuantizationType) -> bool:
    # gguf publishes no list; one block of zeros tells.
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[qtype][1]), np.uint8), qtype)
    except NotImplementedError:
        return False
    return True


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise ModelError(f"{path}: the file is empty")
    if start[:4] != b"GGUF":
        raise ModelError(
            f"{path}: not a GGUF file (it starts with {start[:4]!r}). "
            "Give a .gguf file, or the directory that holds config.json and *.safetensors."
        )
    version = int.from_bytes(start[4:], "little")
    if version & 0xFFFF == 0 and version:
        raise ModelError(f"{path}: a big-endian GGUF file; only little-endian ones are supported")
    if version not in (2, 3):
        raise ModelError(f"{path}: GGUF version {version} is not supported; versions 2 and 3 are")


class _PastEnd(Exception):
    """The header asks for bytes beyond the end of the file."""


class _Parser:
    """One pass over a header. Every read checks the file's size first."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.offset = 8

    def header(self) -> GGUFHeader:
        num_tensors, num_values = self.unpack("QQ")
        metadata: dict[str, Value] = {}
        for _ in range(num_values):
            key = self.string()
            value = self.value(self.value_type())
            if value is not None:
                metadata[key] = value
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ModelError(f"{self.path}: general.alignment must be a power of two")
        return GGUFHeader(self.path, metadata, self.tensors(num_tensors, alignment))

    def tensors(self, num_tensors: int, alignment: int) -> dict[str, GGUFTensor]:
        entries = [self.tensor() for _ in range(num_tensors)]
        start = -(-self.offset // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, qtype, offset in entries:
            tensor = self.place(name, shape, qtype, start + offset)
            if tensor.name in tensors:
                raise ModelError(f"{self.path}: two tensors are named {name!r}")
            tensors[name] = tensor
        return tensors

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string()
        (num_dims,) = self.unpack("I")
        if not 1 <= num_dims <= 4:
            raise ModelError(f"{self.path}: tensor {name!r} has {num_dims} dimensions")
        dims = self.unpack(f"{num_dims}Q")
        qtype, offset = self.unpack("IQ")
        return name, dims[::-1], qtype, offset

    def place(self, name: str, shape: tuple[int, ...], raw_type: int, offset: int) -> GGUFTensor:
        try:
            qtype = GGMLQuantizationType(raw_type)
        except ValueError:
            qtype = None
        if qtype not in supported_types():
            shown = qtype.name if qtype is not None else f"number {raw_type}"
            names = " ".join(sorted(known.name for known in supported_types()))
            raise ModelError(
                f"{self.path}: tensor {name!r} has type {shown}, which is not supported.\n"
                f"Supported: {names}"
            )
        block_size, block_bytes = GGML_QUANT_SIZES[qtype]
        if 0 in shape or shape[-1] % block_size:
            raise ModelError(
                f"{self.path}: tensor {name!r} of shape {list(shape)} cannot be {qtype.name}, "
                f"whose rows are multiples of {block_size}"
            )
        num_bytes = prod(shape) // block_size * block_bytes
        if offset + num_bytes > self.size:
            raise ModelError(
                f"{self.path}: truncated: tensor {name!r} ends at byte {offset + num_bytes:,}, "
                f"the file has {self.size:,}. Download it again."
            )
        return GGUFTensor(name, qtype, shape, offset, num_bytes)

    def value_type(self) -> GGUFValueType:
        (raw_type,) = self.unpack("I")
        try:
            return GGUFValueType(raw_type)
        except ValueError:
            raise ModelError(f"{self.path}: metadata of unknown type {raw_type}") from None

    def value(self, kind: GGUFValueType) -> Value | None:
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind == GGUFValueType.ARRAY:
            return self.array()
        value: Value = self.unpack(_SCALARS[kind])[0]
        return value

    def array(self) -> Value | None:
        kind = self.value_type()
        (count,) = self.unpack("Q")
        if kind == GGUFValueType.STRING:
            self.skip_strings(count)
            return None
        if kind == GGUFValueType.ARRAY:
            raise ModelError(f"{self.path}: metadata with arrays inside arrays is not supported")
        if count <= MAX_ARRAY:
            return self.unpack(f"{count}{_SCALARS[kind]}")
        self.skip(count * struct.calcsize(f"<{_SCALARS[kind]}"))
        return None

    def skip_strings(self, count: int) -> None:
        # The only long loop of the file, so without a call per element.
        unpack_length = struct.Struct("<Q").unpack_from
        offset, last = self.offset, self.size - 8
        for _ in range(count):
            if offset > last:
                raise _PastEnd
            offset += 8 + unpack_length(self.data, offset)[0]
        self.offset = offset

    def string(self) -> str:
        (num_bytes,) = self.unpack("Q")
        start = self.skip(num_bytes)
        return self.data[start : self.offset].decode("utf-8", errors="replace")

    def unpack(self, layout: str) -> tuple[int, ...]:
        layout = f"<{layout}"
        start = self.skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self.data, start)

    def skip(self, num_bytes: int) -> int:
        """Step over some bytes of the file and return where they start."""
        start = self.offset
        if start + num_bytes > self.size:
            raise _PastEnd
        self.offset = start + num_bytes
        return start
