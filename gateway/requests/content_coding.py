"""Bodies that come compressed: Content-Encoding gzip and deflate, piece by piece.

Decodes no more than it is asked for, so a few kilobytes cannot become gigabytes before anybody has
counted. Must not know limits. Called by body.py.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from gateway.errors import ApiError, invalid

ACCEPTED = "gzip, deflate"
# Some ms of work; whoever serves others too can look after them in between.
PIECE_BYTES = 1 << 20
# Both kinds of container; deflate is zlib's in RFC 9110, but some send the bare stream.
_GZIP, _ZLIB, _RAW = 31, 15, -15


class Coding(Protocol):
    """Turns the bytes of a body as they come into those that were meant."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Yield what comes of the next bytes, in pieces of at most PIECE_BYTES, or as it is."""

    def end(self) -> None:
        """Raise ApiError 400 if the body was not whole."""


def coding_of(name: str) -> Coding:
    """Return the coding that a Content-Encoding names. Raises ApiError 415 for unknown ones."""
    match name.strip().lower():
        case "" | "identity":
            return Identity()
        case "gzip" | "x-gzip":
            return Zipped("gzip", _GZIP)
        case "deflate":
            return Zipped("deflate", _ZLIB)
    message = (
        f"The request body's Content-Encoding '{name[:64]}' is not read here; "
        f"one of {ACCEPTED} is, or none."
    )
    code = "unsupported_content_encoding"
    raise ApiError(415, message, code=code, headers={"accept-encoding": ACCEPTED})


class Identity:
    """The bytes themselves."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> None:
        """Nothing can be missing."""


class Zipped:
    """One stream of zlib's after another; gzip files may be joined."""

    def __init__(self, name: str, container: int) -> None:
        """container: zlib's wbits."""
        self._name = name
        self._container = container
        self._stream = zlib.decompressobj(container)
        self._is_begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        if self._container == _ZLIB and not self._is_begun and not _has_zlib_head(data):
            self._container = _RAW
            self._stream = zlib.decompressobj(_RAW)
        self._is_begun = True
        while data:
            if self._stream.eof:
                self._stream = zlib.decompressobj(self._container)
            try:
                piece = self._stream.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise self._fault() from None
            yield piece
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if not data and len(piece) == PIECE_BYTES:
                yield from self._rest()

    def end(self) -> None:
        if self._is_begun and not self._stream.eof:
            raise self._fault()

    def _rest(self) -> Iterator[bytes]:
        """Yield what a stream that was asked for so much holds beyond that."""
        while not self._stream.eof and (piece := self._stream.decompress(b"", PIECE_BYTES)):
            yield piece

    def _fault(self) -> ApiError:
        message = f"The request body is not what its Content-Encoding says: {self._name}."
        return invalid(message, None, "invalid_content_encoding")


def _has_zlib_head(data: bytes) -> bool:
    """Whether a stream may begin so: compression method 8 and a check sum (RFC 1950).

    The first piece of a body has one byte at least; the other then is for zlib to judge.
    """
    if data[0] & 0x0F != 8:
        return False
    return len(data) == 1 or (data[0] << 8 | data[1]) % 31 == 0
