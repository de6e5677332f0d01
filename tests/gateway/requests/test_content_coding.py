"""Compressed bodies are what they become: their limits count that, and so does what they say."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest

from backend.wire.messages import FinishReason
from gateway.errors import ApiError
from gateway.requests.content_coding import PIECE_BYTES, coding_of
from tests.gateway.fakes import Exchange, FakePool, app_of

pytestmark = pytest.mark.anyio

BODY = json.dumps({"model": "tiny", "prompt": "hi", "max_tokens": 2}).encode()


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


CODINGS = {
    "gzip": ("gzip", gzip.compress(BODY)),
    "x-gzip": ("X-GZIP", gzip.compress(BODY)),
    "joined": ("gzip", gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])),
    "deflate": ("deflate", zlib.compress(BODY)),
    "bare": (" deflate ", raw_deflate(BODY)),
    "identity": ("identity", BODY),
    "none": ("", BODY),
}


def decoded(name: str, pieces: Iterable[bytes]) -> bytes:
    coding = coding_of(name)
    found = [part for piece in pieces for part in coding.decode(piece)]
    coding.end()
    assert max(map(len, found), default=0) <= PIECE_BYTES
    return b"".join(found)


@pytest.mark.parametrize(("name", "sent"), CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_coding_gives_back_what_was_meant(name: str, sent: bytes, size: int) -> None:
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    assert decoded(name, pieces) == BODY


@pytest.mark.parametrize("num_bytes", [PIECE_BYTES - 1, PIECE_BYTES, 3 * PIECE_BYTES + 1])
def test_long_body_comes_in_pieces(num_bytes: int) -> None:
    meant = bytes(num_bytes)
    assert decoded("gzip", [gzip.compress(meant)]) == meant
    assert decoded("deflate", [raw_deflate(meant)]) == meant


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare"])
def test_broken_body_is_refused(coding: str) -> None:
    name, sent = CODINGS[coding]
    for broken in (sent[:-1], sent + b"x", b"x" + sent, BODY):
        with pytest.raises(ApiError) as raised:
            decoded(name, [broken])
        assert (raised.value.status, raised.value.code) == (400, "invalid_content_encoding")


async def posted(body: bytes, coding: str, **limits: int) -> Exchange:
    pool = FakePool(script=(b"ab", FinishReason.LENGTH))
    headers = [("content-encoding", coding)] if coding else []
    app = app_of(pool, **limits)
    return await Exchange(app, "POST", "/v1/completions", body, headers).finished()


@pytest.mark.parametrize(("name", "sent"), CODINGS.values(), ids=CODINGS)
async def test_compressed_request_is_answered(name: str, sent: bytes) -> None:
    exchange = await posted(sent, name)
    assert exchange.status == 200, exchange.body
    assert exchange.json["choices"][0]["text"] == "ab"


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip", "compress"])
async def test_coding_not_read_here_is_a_415_that_says_which_are(name: str) -> None:
    exchange = await posted(BODY, name)
    assert exchange.status == 415
    assert exchange.error["code"] == "unsupported_content_encoding"
    assert exchange.headers["accept-encoding"] == "gzip, deflate"


async def test_body_that_grows_beyond_its_limit_is_refused_on_the_way() -> None:
    """Ten kilobytes that stand for 10 MiB: what is held is a little more than the limit."""
    bomb = gzip.compress(bytes(10 << 20))
    tracemalloc.start()
    try:
        exchange = await posted(bomb, "gzip", max_body_bytes=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert exchange.status == 413
    assert peak < 6 << 20


async def test_byte_order_mark_is_skipped() -> None:
    assert (await posted(b"\xef\xbb\xbf" + BODY, "")).status == 200
    assert (await posted(gzip.compress(b"\xef\xbb\xbf" + BODY), "gzip")).status == 200
    assert (await posted(b"\xef\xbb\xbf\xef\xbb\xbf" + BODY, "")).status == 400
