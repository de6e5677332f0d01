"""Rules of reading the front of a GGUF file, above all of the bad ones."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.config.errors import ModelError
from backend.config.gguf_header import MAX_ARRAY, read_header, read_headers, read_metadata
from gateway.hub import default_model
from tests.gateway.gguf_files import sentencepiece_pairs, write_gguf

UINT8, UINT32, STRING, ARRAY = 0, 4, 8, 9
F32, Q4_0, Q8_1 = 0, 2, 9


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def tensor(name: str, dims: tuple[int, ...], kind: int = F32, offset: int = 0) -> bytes:
    """dims are in the file's order, the row length first."""
    head = text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return head + struct.pack("<IQ", kind, offset)


def gguf_bytes(
    *tensors: bytes,
    values: tuple[bytes, ...] = (),
    data: bytes = bytes(4096),
    version: bytes = b"\3\0\0\0",
    num_tensors: int | None = None,
) -> bytes:
    num_tensors = len(tensors) if num_tensors is None else num_tensors
    front = b"GGUF" + version + struct.pack("<QQ", num_tensors, len(values))
    front += b"".join(values) + b"".join(tensors)
    return front + bytes(-len(front) % 32) + data


def refusal(path: Path, content: bytes, read: Callable[[Path], object] = read_header) -> str:
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def test_metadata_and_tensors_are_read(path: Path) -> None:
    numbers = struct.pack("<IQ3I", UINT32, 3, 5, 6, 7)
    path.write_bytes(
        gguf_bytes(
            tensor("a", (64, 3), Q4_0),
            tensor("b", (5,), offset=128),
            values=(
                text("some.name") + struct.pack("<I", STRING) + text("ünï"),
                text("some.list") + struct.pack("<I", ARRAY) + numbers,
            ),
        )
    )
    header = read_header(path)
    assert header.metadata == {"some.name": "ünï", "some.list": (5, 6, 7)}
    a, b = header.tensors["a"], header.tensors["b"]
    assert (a.shape, a.qtype.name, a.num_bytes, a.row_bytes) == ((3, 64), "Q4_0", 108, 36)
    assert (b.shape, b.num_bytes, b.offset - a.offset) == ((5,), 20, 128)


def long_arrays() -> bytes:
    count = MAX_ARRAY + 1
    tokens = struct.pack("<IQ", STRING, count) + b"".join(text(f"t{i}") for i in range(count))
    scores = struct.pack("<IQ", UINT8, count) + bytes(count)
    values = [
        text("tokens") + struct.pack("<I", ARRAY) + tokens,
        text("scores") + struct.pack("<I", ARRAY) + scores,
        text("after") + struct.pack("<II", UINT32, 42),
    ]
    return gguf_bytes(values=tuple(values))


def test_header_steps_over_vocabularies(path: Path) -> None:
    path.write_bytes(long_arrays())
    assert read_header(path).metadata == {"after": 42}


def test_metadata_holds_vocabularies(path: Path) -> None:
    path.write_bytes(long_arrays())
    assert read_metadata(path) == {
        "tokens": tuple(f"t{i}" for i in range(MAX_ARRAY + 1)),
        "scores": (0,) * (MAX_ARRAY + 1),
        "after": 42,
    }


def test_metadata_of_some_keys_is_read_alone(path: Path) -> None:
    path.write_bytes(long_arrays())
    keys = frozenset(("scores", "after", "missing"))
    whole = read_metadata(path)
    assert read_metadata(path, keys) == {key: whole[key] for key in ("scores", "after")}


def test_metadata_equals_what_the_gguf_package_reads(path: Path) -> None:
    pieces = {f"piece{rank}": -float(rank) for rank in range(9)}
    pairs: dict[str, Any] = sentencepiece_pairs(pieces)
    pairs |= {"a.yes": True, "a.float": 0.5, "a.negative": -7, "a.text": "é\n"}
    fields = gguf.GGUFReader(write_gguf(path, pairs)).fields.items()
    expected = {key: field.contents() for key, field in fields if not key.startswith("GGUF.")}
    read = {k: list(v) if isinstance(v, tuple) else v for k, v in read_metadata(path).items()}
    assert read == expected
    assert pairs.items() <= read.items()


def test_metadata_is_read_whatever_the_tensors_are(path: Path) -> None:
    value = text("k") + struct.pack("<II", UINT32, 1)
    path.write_bytes(gguf_bytes(tensor("w", (4, 2**40), 999), values=(value,)))
    assert read_metadata(path) == {"k": 1}


def test_text_not_utf8_is_shown_in_header_refused_in_vocabulary(path: Path) -> None:
    value = text("author") + struct.pack("<IQ", STRING, 2) + b"a\xff"
    content = gguf_bytes(values=(value,))
    path.write_bytes(content)
    assert read_header(path).metadata == {"author": "a\ufffd"}
    assert "metadata holds text that is not UTF-8" in refusal(path, content, read_metadata)
    array = text("tokens") + struct.pack("<IIQQ", ARRAY, STRING, 1, 2) + b"a\xff"
    assert "text that is not UTF-8" in refusal(path, gguf_bytes(values=(array,)), read_metadata)


def test_metadata_cut_anywhere_is_refused_and_nothing_worse(path: Path) -> None:
    whole = write_gguf(
        path, sentencepiece_pairs({f"▁{rank}": 0.0 for rank in range(9)})
    ).read_bytes()
    assert read_metadata(path)
    assert "the file is empty" in refusal(path, b"", read_metadata)
    # The end of the file is padding of the last array: cut before that.
    for size in range(8, len(whole) - 32, 97):
        assert "truncated: its header runs past" in refusal(path, whole[:size], read_metadata)


def test_default_model_has_its_tensors_within_its_file() -> None:
    path = default_model()
    tensors = read_header(path).tensors.values()
    assert len(tensors) == 272
    assert max(t.offset + t.num_bytes for t in tensors) == path.stat().st_size


BAD_METADATA = [
    (b"", "the file is empty"),
    (b"PK\3\4 a zip file", "not a GGUF file (it starts with b'PK"),
    (gguf_bytes(version=b"\0\0\0\3"), "a big-endian GGUF file"),
    (gguf_bytes(version=b"\1\0\0\0"), "GGUF version 1 is not supported"),
    (gguf_bytes(values=(text("k") + struct.pack("<I", 99),)), "metadata of unknown type 99"),
    (
        gguf_bytes(values=(text("k") + struct.pack("<IQ", STRING, 2**63),)),
        "truncated: its header runs past",
    ),
    (
        gguf_bytes(values=(text("k") + struct.pack("<IIQ", ARRAY, STRING, 2**63),)),
        "truncated: its header runs past",
    ),
    (
        gguf_bytes(values=(text("k") + struct.pack("<IIQ", ARRAY, UINT32, 2**63),)),
        "truncated: its header runs past",
    ),
    (
        gguf_bytes(values=(text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 1),)),
        "arrays inside arrays",
    ),
    (
        gguf_bytes(values=(text("k") + struct.pack("<IIQ", ARRAY, UINT32, 2**40),)),
        "truncated: its header runs past",
    ),
    (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**63), "truncated: its header runs past"),
    (gguf_bytes(values=(text("k") + struct.pack("<IIQ", ARRAY, 99, 1),)), "unknown type 99"),
    (
        gguf_bytes(values=(text("k") + struct.pack("<IIQQ", ARRAY, STRING, 1, 2**40),)),
        "truncated: its header runs past",
    ),
    # In the middle of a character, which alone would look like text in another encoding.
    (
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + text("k")
        + struct.pack("<IIQQ", ARRAY, STRING, 1, 3)
        + "▁".encode()[:2],
        "truncated: its header runs past",
    ),
]
BAD_TENSORS = [
    (
        gguf_bytes(tensor("8 bytes!", (4,)), num_tensors=2**60, data=b""),
        "truncated: its header runs past",
    ),
    (
        gguf_bytes(values=(text("general.alignment") + struct.pack("<II", UINT32, 24),)),
        "general.alignment must be a power of two",
    ),
    (gguf_bytes(tensor("w", (4, 2**40))), "truncated: tensor 'w' ends at byte"),
    (gguf_bytes(tensor("w", (4,), offset=2**63)), "truncated: tensor 'w' ends at byte"),
    (gguf_bytes(tensor("w", (4,)), data=bytes(12)), "truncated: tensor 'w' ends at byte"),
    (gguf_bytes(tensor("w", (33,), Q4_0)), "rows are multiples of 32"),
    (gguf_bytes(tensor("w", (0, 3))), "tensor 'w' of shape [3, 0] cannot be F32"),
    (gguf_bytes(tensor("w", (1,) * 5)), "tensor 'w' has 5 dimensions"),
    (gguf_bytes(tensor("w", (4,)), tensor("w", (4,))), "two tensors are named 'w'"),
]


@pytest.mark.parametrize(("content", "words"), BAD_METADATA + BAD_TENSORS)
def test_bad_file_is_named_with_its_fault(path: Path, content: bytes, words: str) -> None:
    assert words in refusal(path, content)


@pytest.mark.parametrize(("content", "words"), BAD_METADATA)
def test_bad_metadata_is_named_in_one_line(path: Path, content: bytes, words: str) -> None:
    message = refusal(path, content, read_metadata)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(("kind", "shown"), [(Q8_1, "Q8_1"), (4, "number 4"), (999, "number 999")])
def test_unsupported_type_is_named_beside_the_supported(path: Path, kind: int, shown: str) -> None:
    message = refusal(path, gguf_bytes(tensor("w", (32,), kind)))
    assert f"tensor 'w' has type {shown}, which is not supported" in message
    supported = message.splitlines()[1].split()[1:]
    assert {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q4_K", "Q6_K"} <= set(supported)
    assert "Q8_1" not in supported


# Without a deadline: the first example also probes gguf's types.
@settings(deadline=None)
@given(cut=st.integers(0, 255), byte=st.integers(0, 255), keep=st.booleans())
def test_no_damage_gets_past_as_another_exception(
    tmp_path_factory: pytest.TempPathFactory, cut: int, byte: int, keep: bool
) -> None:
    whole = gguf_bytes(
        tensor("a", (64, 3), Q4_0), values=(text("k") + struct.pack("<I", STRING) + text("v"),)
    )
    path = tmp_path_factory.mktemp("damaged") / "model.gguf"
    at = cut % len(whole)
    path.write_bytes(whole[:at] + bytes([byte]) + (whole[at + 1 :] if keep else b""))
    try:
        header = read_header(path)
    except ModelError:
        return
    assert all(t.offset + t.num_bytes <= path.stat().st_size for t in header.tensors.values())


def part(number: int, count: int, *tensors: bytes) -> bytes:
    values = (text("split.count") + struct.pack("<IH", 2, count),)
    return gguf_bytes(*tensors, values=(*values, text("split.no") + struct.pack("<IH", 2, number)))


def test_split_model_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2))
    first.write_bytes(part(0, 2, tensor("a", (4,))))
    second.write_bytes(part(1, 2, tensor("b", (4,))))
    headers = read_headers(first)
    assert [(h.path, list(h.tensors)) for h in headers] == [(first, ["a"]), (second, ["b"])]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("m-00001-of-00003.gguf", "2 of 3 parts are missing: m-00002-of-00003.gguf"),
        ("m-00002-of-00003.gguf", "part 2 of 3; give the first, "),
        ("renamed.gguf", "one of 3 parts, but not named ...-00001-of-00003.gguf"),
    ],
)
def test_split_model_that_is_incomplete_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(part(0, 3))
    with pytest.raises(ModelError, match=words):
        read_headers(tmp_path / name)
