"""The certificate of our own socket, and what may happen to its files."""

import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.wire.tcp.encryption import fingerprint, self_signed_pair
from gateway.security.tls import TlsError, TlsFiles


class Pair:
    """Two files, and who writes them."""

    def __init__(self, directory: Path) -> None:
        self.files = directory / "certificate", directory / "key"

    def write(self, *texts: str) -> None:
        for file, text in zip(self.files, texts, strict=True):
            file.write_text(text)

    def serve(self) -> TlsFiles:
        return TlsFiles(str(self.files[0]), str(self.files[1]))


@pytest.fixture
def files(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    return [self_signed_pair() for _ in range(3)]


def served(tls: TlsFiles) -> bytes:
    """Shake hands in memory; return the fingerprint that a client sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(down, up)
    server = tls.context.wrap_bio(up, down, server_side=True)
    waiting = [client, server]
    for _ in range(4):
        for side in [*waiting]:
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert waiting == []
    return hashlib.sha256(client.getpeercert(binary_form=True) or b"").digest()


def when_loaded(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Have something happen each time that a context has taken a pair, or has not."""
    load = ssl.SSLContext.load_cert_chain

    def load_and_then(context: ssl.SSLContext, *args: Any, **kwargs: Any) -> None:
        try:
            load(context, *args, **kwargs)
        finally:
            then()

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load_and_then)


def test_reloaded_pair_is_what_new_connections_meet(
    files: Pair, pairs: list[tuple[str, str]]
) -> None:
    files.write(*pairs[0])
    tls = files.serve()
    assert served(tls) == fingerprint(pairs[0][0])
    files.write(*pairs[1])
    assert served(tls) == fingerprint(pairs[0][0])
    tls.reload()
    assert served(tls) == fingerprint(pairs[1][0])


@pytest.mark.parametrize("broken", ["", "no certificate", "another's"])
def test_unusable_pair_is_named_and_the_old_one_stays(
    files: Pair, pairs: list[tuple[str, str]], broken: str
) -> None:
    files.write(*pairs[0])
    tls = files.serve()
    files.write(pairs[1][0] if broken == "another's" else broken, pairs[0][1])
    with pytest.raises(TlsError, match=r"certificate and .*key cannot be used for TLS"):
        tls.reload()
    files.files[1].unlink()
    with pytest.raises(TlsError, match="key cannot be used for TLS: No such file"):
        tls.reload()
    assert served(tls) == fingerprint(pairs[0][0])


def test_files_that_change_after_the_check_break_nothing(
    files: Pair, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were read for a check, then once more for the context, which was left with another
    certificate and no key."""
    files.write(*pairs[0])
    tls = files.serve()
    files.write(*pairs[1])
    # As somebody who is about to write the third key does.
    when_loaded(monkeypatch, lambda: files.write(pairs[2][0], pairs[1][1]))
    tls.reload()
    assert served(tls) == fingerprint(pairs[1][0])
    with pytest.raises(TlsError, match="the key is not the certificate's"):
        tls.reload()
    assert served(tls) == fingerprint(pairs[1][0])
