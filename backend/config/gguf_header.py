"""Reads the front of a GGUF file: metadata, and where each tensor lies.

Knows the container only: no architecture, no meaning of a key, no tensor data. Everything is
checked against the file's size here, so that a reader of tensors never runs past its end.
gguf's own reader makes a numpy array of every vocabulary entry, 1.8 s for 49k tokens on one slow
core; here it is 0.02 s, or 0.01 s for a reader that wants no vocabulary and steps over it.
Called by `config.gguf` and `weights.gguf`, and by the gateway's tokenizer for metadata alone.
Imports neither numpy nor gguf.

    magic "GGUF" | version u32 | tensors u64 | pairs u64 | pair ... | tensor ... | padding | data
    pair   = key string | type u32 | value
    string = length u64 | UTF-8 bytes
    array  = element type u32 | count u64 | element ...
    tensor = name string | dimensions u32 | sizes u64 ... | type u32 | offset into the data u64
"""

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

from backend.config.errors import ModelError
from backend.config.ggml_type import GGMLType

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

# Without vocabularies, per-layer numbers are kept; tokens, scores and merges are not.
MAX_ARRAY = 1024

_STRING, _ARRAY = 8, 9
# Number of a type in the file -> struct's letter.
_SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_TYPES = {int(kind): kind for kind in GGMLType}
_PART_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Where one tensor lies. shape: torch's order, [out, in]; offset: from the file's start."""

    name: str
    qtype: GGMLType
    shape: tuple[int, ...]
    offset: int
    num_bytes: int

    @property
    def row_bytes(self) -> int:
        return self.num_bytes // prod(self.shape[:-1])


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
    with _parser(path, keeps_vocabulary=False) as parser:
        return parser.header()


def read_metadata(path: Path, keys: frozenset[str] = frozenset()) -> dict[str, Value]:
    """Read the metadata of one file, whole vocabularies among it; its tensors are not looked at.

    keys: the only ones to read; without any, all are.
    Raises ModelError, one line that names the file. Text that is not UTF-8 is an error here: a
    replaced character would be another token.
    """
    with _parser(path, keeps_vocabulary=True) as parser:
        return parser.metadata(keys)


@contextmanager
def _parser(path: Path, *, keeps_vocabulary: bool) -> Iterator["_Parser"]:
    """Open a file as far as its version; what then is missing from it becomes a ModelError."""
    with path.open("rb") as file:
        _check_start(path, file.read(8))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                yield _Parser(path, data, keeps_vocabulary=keeps_vocabulary)
            except _PastEnd:
                raise ModelError(
                    f"{path}: truncated: its header runs past the {len(data):,} bytes of the file"
                ) from None
            except UnicodeDecodeError as exc:
                raise ModelError(f"{path}: metadata holds text that is not UTF-8: {exc}") from None


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

    def __init__(self, path: Path, data: mmap.mmap, *, keeps_vocabulary: bool) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.keeps_vocabulary = keeps_vocabulary
        self.offset = 8
        self.num_tensors, self.num_values = self.unpack("QQ")

    def header(self) -> GGUFHeader:
        metadata = self.metadata()
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise ModelError(f"{self.path}: general.alignment must be a power of two")
        return GGUFHeader(self.path, metadata, self.tensors(self.num_tensors, alignment))

    def metadata(self, keys: frozenset[str] = frozenset()) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        keeps_vocabulary = self.keeps_vocabulary
        for _ in range(self.num_values):
            key = self.string()
            is_wanted = not keys or key in keys
            self.keeps_vocabulary = keeps_vocabulary and is_wanted
            value = self.value(self.value_type())
            if value is not None and is_wanted:
                metadata[key] = value
        self.keeps_vocabulary = keeps_vocabulary
        return metadata

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
        qtype = _TYPES.get(raw_type)
        if qtype is None:
            raise ModelError(
                f"{self.path}: tensor {name!r} has type {_type_name(raw_type)}, which is not "
                f"supported.\nSupported: {' '.join(sorted(GGMLType.__members__))}"
            )
        if 0 in shape or shape[-1] % qtype.block_size:
            raise ModelError(
                f"{self.path}: tensor {name!r} of shape {list(shape)} cannot be {qtype.name}, "
                f"whose rows are multiples of {qtype.block_size}"
            )
        num_bytes = prod(shape) // qtype.block_size * qtype.block_bytes
        if offset + num_bytes > self.size:
            raise ModelError(
                f"{self.path}: truncated: tensor {name!r} ends at byte {offset + num_bytes:,}, "
                f"the file has {self.size:,}. Download it again."
            )
        return GGUFTensor(name, qtype, shape, offset, num_bytes)

    def value_type(self) -> int:
        (kind,) = self.unpack("I")
        if kind not in _SCALARS and kind not in (_STRING, _ARRAY):
            raise ModelError(f"{self.path}: metadata of unknown type {kind}")
        return kind

    def value(self, kind: int) -> Value | None:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array()
        value: Value = self.unpack(_SCALARS[kind])[0]
        return value

    def array(self) -> Value | None:
        kind = self.value_type()
        (count,) = self.unpack("Q")
        if kind == _STRING:
            return self.strings(count)
        if kind == _ARRAY:
            raise ModelError(f"{self.path}: metadata with arrays inside arrays is not supported")
        letter = _SCALARS[kind]
        # Before the count meets struct, which refuses large ones in its own words.
        start = self.skip(count * struct.calcsize(f"<{letter}"))
        if not self.keeps_vocabulary and count > MAX_ARRAY:
            return None
        return struct.unpack_from(f"<{count}{letter}", self.data, start)

    def strings(self, count: int) -> tuple[str, ...] | None:
        # The only long loop of the file, so with local names and without a call of ours.
        data, size, unpack_length = self.data, self.size, struct.Struct("<Q").unpack_from
        keeps_vocabulary, strings = self.keeps_vocabulary, []
        offset, last = self.offset, size - 8
        for _ in range(count):
            if offset > last:
                raise _PastEnd
            start = offset + 8
            offset = start + unpack_length(data, offset)[0]
            if keeps_vocabulary:
                if offset > size:  # where a slice would silently end short
                    raise _PastEnd
                strings.append(data[start:offset].decode())
        self.skip(offset - self.offset)
        return tuple(strings) if keeps_vocabulary else None

    def string(self) -> str:
        (num_bytes,) = self.unpack("Q")
        start = self.skip(num_bytes)
        errors = "strict" if self.keeps_vocabulary else "replace"
        return self.data[start : self.offset].decode("utf-8", errors)

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


def _type_name(raw_type: int) -> str:
    """Name a type that is not supported, if anybody has named it."""
    from gguf.constants import GGMLQuantizationType

    try:
        return str(GGMLQuantizationType(raw_type).name)
    except ValueError:
        return f"number {raw_type}"
