"""A listening lead and workers that dial, encrypted or not."""

import contextlib
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from backend.wire.messages import Reply
from backend.wire.tcp import acceptor as acceptor_module
from backend.wire.tcp import handshake
from backend.wire.tcp.acceptor import Acceptor
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.dial import DialError, dial
from backend.wire.tcp.encryption import (
    encrypt,
    fingerprint,
    lead_context,
    pinned,
    self_signed_pair,
)
from backend.wire.tcp.handshake import Reason
from backend.wire.tcp.sockets import create_listener
from tests.backend.wire.tcp.pairs import (
    HELLO,
    INCARNATION,
    SECRET,
    SOME_REPLIES,
    SOME_REQUESTS,
    WAIT_S,
    admitted,
    in_thread,
    through,
    wait_for_bytes,
    wait_for_requests,
)


@contextlib.contextmanager
def listening(certificate: str = "", key: str = "") -> Iterator[tuple[Acceptor, LeadAddress]]:
    listener = create_listener("127.0.0.1")
    host, port = listener.getsockname()
    encryption = lead_context(certificate, key) if certificate else None
    acceptor = Acceptor(listener, SECRET, INCARNATION, encryption)
    try:
        yield acceptor, LeadAddress(host, port, SECRET, INCARNATION)
    finally:
        acceptor.close()


def wait_for_refusals(acceptor: Acceptor, reason: Reason, count: int) -> None:
    """Wait until so many have been counted: a caller may hear of it before that."""
    until_s = time.monotonic() + WAIT_S
    while acceptor.num_refused[reason] < count:
        assert time.monotonic() < until_s, f"not refused {count} times: {reason}"
        time.sleep(0.001)


@pytest.fixture(scope="module")
def pair() -> tuple[str, str]:
    return self_signed_pair()


def test_worker_is_let_in_and_both_directions_work() -> None:
    with listening() as (acceptor, address):
        key, lead, worker = through(acceptor, address)
        assert (key, lead.epoch) == (3, 5)
        for request in SOME_REQUESTS:
            assert worker.send(request)
        assert wait_for_requests(lead, len(SOME_REQUESTS)) == SOME_REQUESTS
        worker.close()
        lead.close()


def test_pinned_certificate_encrypts_what_is_said(pair: tuple[str, str]) -> None:
    certificate, key = pair
    with listening(certificate, key) as (acceptor, address):
        known = msgspec.structs.replace(address, fingerprint=fingerprint(certificate))
        _, lead, worker = through(acceptor, known)
        # More than a record of TLS, and than a socket takes at once.
        big = [msgspec.structs.replace(SOME_REQUESTS[0], seq_id=n) for n in range(20_000)]
        for request in big:
            while not worker.send(request):
                worker._write()
                lead.receive()
        worker._write()
        for reply in SOME_REPLIES:
            lead.send(reply)
        replies: list[Reply] = []
        while len(replies) < len(SOME_REPLIES):
            wait_for_bytes(worker)
            replies += worker.receive()
        assert replies == SOME_REPLIES
        worker.close()
        lead.close()


def test_renewed_certificate_is_for_new_workers_alone(pair: tuple[str, str]) -> None:
    certificate, key = self_signed_pair()
    with listening(*pair) as (acceptor, address):
        old, new = pinned(address, pair[0]), pinned(address, certificate)
        _, lead, worker = through(acceptor, old)
        with pytest.raises(ssl.SSLError):
            acceptor.renew(certificate, pair[1])  # which do not belong together
        _, other, another = through(acceptor, old)
        acceptor.renew(certificate, key)
        with pytest.raises(DialError, match="another fingerprint"):
            dial(old, HELLO)
        _, third, last = through(acceptor, new)
        lead.send(SOME_REPLIES[0])
        while not (replies := worker.receive()):
            wait_for_bytes(worker)
        assert replies == SOME_REPLIES[:1]
        for end in (lead, worker, other, another, third, last):
            end.close()


def test_nobody_is_refused_between_two_certificates(pair: tuple[str, str]) -> None:
    pairs = [self_signed_pair(), pair]
    with listening(*pair) as (acceptor, address):
        renewed = threading.Event()

        def renew() -> None:
            for number in range(200):
                acceptor.renew(*pairs[number % 2])
            renewed.set()

        renewing = in_thread(renew)
        while not renewed.is_set():
            # Which of the two it meets is not known: with neither pinned, TLS is all that is tried.
            encrypt(socket.create_connection((address.host, address.port)), address).close()
        renewing()
        assert acceptor.num_refused[Reason.ENCRYPTION] == 0


def test_signed_certificate_of_another_host_is_refused(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    certificate, key = pair
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(certificate)
    with listening(certificate, key) as (_, address):
        signed = msgspec.structs.replace(address, ca_file=str(ca_file))
        with pytest.raises(DialError, match="encryption could not be agreed on"):
            dial(signed, HELLO)


def test_another_certificate_and_a_plain_worker_are_refused(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.2)
    with listening(*pair) as (acceptor, address):
        other = msgspec.structs.replace(address, fingerprint=bytes(32))
        with pytest.raises(DialError, match="another fingerprint"):
            dial(other, HELLO)
        with pytest.raises(DialError):
            dial(address, HELLO)
        assert acceptor.take() == []


def test_wrong_secrets_are_counted_and_logged_without_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = b"this is not it at all"
    with listening() as (acceptor, address), caplog.at_level(logging.WARNING):
        for _ in range(5):
            with pytest.raises(DialError, match="the secret is wrong") as error:
                dial(msgspec.structs.replace(address, secret=wrong), HELLO)
            assert "not it" not in str(error.value)
        for end in through(acceptor, address)[1:]:
            end.close()
        wait_for_refusals(acceptor, Reason.SECRET, 5)
    logged = [record.getMessage() for record in caplog.records]
    assert [line.rpartition("; ")[2] for line in logged] == ["1 so far", "2 so far", "4 so far"]
    assert all("the secret is wrong" in line for line in logged)
    assert not any("not it" in line or SECRET.hex() in line for line in logged)
    assert "not it" not in repr(msgspec.structs.replace(address, secret=wrong))


def test_count_of_refusals_is_a_snapshot() -> None:
    """The supervisor added to what threads were counting: a dictionary whose size may change."""
    with listening() as (acceptor, address):
        before = acceptor.num_refused
        with pytest.raises(DialError):
            dial(msgspec.structs.replace(address, secret=bytes(32)), HELLO)
        wait_for_refusals(acceptor, Reason.SECRET, 1)
        assert before == {} and acceptor.num_refused == {Reason.SECRET: 1}


def test_silent_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor_module, "MAX_UNHEARD", 2)
    with listening() as (acceptor, address):
        silent = [socket.create_connection((address.host, address.port)) for _ in range(5)]
        _, lead, worker = through(acceptor, address)
        assert acceptor.num_refused[Reason.SECRET] == 0
        for each in silent:
            each.close()
        lead.close()
        worker.close()


def test_flood_from_one_host_drops_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of all was dropped, so that a flood could end any handshake under way."""
    monkeypatch.setattr(acceptor_module, "MAX_UNHEARD", 3)
    with listening() as (acceptor, address):
        where = (address.host, address.port)
        slow = socket.create_connection(where, source_address=("127.0.0.2", 0))
        slow.recv(1)
        flood = [socket.create_connection(where) for _ in range(9)]
        flood[-1].recv(1)
        worker = dial_as(slow, address)
        admitted(acceptor)[1].close()
        wait_for_refusals(acceptor, Reason.CLOSED, 1)
        for each in (*flood, worker):
            each.close()


def dial_as(sock: socket.socket, address: LeadAddress) -> socket.socket:
    """Go on with a handshake of which the first byte has been read."""
    with_first, rest = socket.socketpair()
    with with_first, rest:
        rest.sendall(b"U" + sock.recv(handshake.PREFACE_BYTES - 1))
        with_first.settimeout(WAIT_S)
        hello = in_thread(lambda: handshake.introduce(with_first, address.secret, HELLO))
        said = rest.recv(1 << 12)
        sock.sendall(said)
        rest.sendall(sock.recv(1 << 12))
        hello()
    return sock


def test_worker_without_tls_is_told_what_may_be_wanted(
    pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.2)
    with listening(*pair) as (_, address), pytest.raises(DialError, match="if it wants TLS"):
        dial(address, HELLO)


def test_worker_with_tls_learns_that_the_lead_has_none() -> None:
    with listening() as (_, address):
        pinned = msgspec.structs.replace(address, fingerprint=bytes(32))
        with pytest.raises(DialError, match="the other side does not encrypt"):
            dial(pinned, HELLO)


def test_files_of_authorities_are_read_or_named(pair: tuple[str, str], tmp_path: Path) -> None:
    with listening(*pair) as (_, address):
        for content in (None, "", "no certificate"):
            file = tmp_path / "ca.pem"
            if content is not None:
                file.write_text(content)
            signed = msgspec.structs.replace(address, ca_file=str(file))
            with pytest.raises(DialError, match=r"ca\.pem") as error:
                dial(signed, HELLO)
            assert error.value.reason is Reason.ENCRYPTION


def test_expired_certificate_is_refused_in_words(tmp_path: Path) -> None:
    files = tmp_path / "certificate", tmp_path / "key"
    request, names = tmp_path / "request", tmp_path / "names"
    names.write_text("subjectAltName=IP:127.0.0.1")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for command in (
        ("req", *curve, "-subj", "/CN=x", "-out", request, "-keyout", files[1]),
        ("x509", "-req", "-in", request, "-signkey", files[1], "-days", "-1", "-extfile", names,
         "-out", files[0]),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    certificate, key = (file.read_text() for file in files)
    with listening(certificate, key) as (acceptor, address):
        signed = msgspec.structs.replace(address, ca_file=str(files[0]))
        with pytest.raises(DialError, match="certificate has expired"):
            dial(signed, HELLO)
        pinned = msgspec.structs.replace(address, fingerprint=fingerprint(certificate))
        worker = dial(pinned, HELLO)  # a fingerprint names this very certificate
        admitted(acceptor)[1].close()
        worker.close()


def test_closed_acceptor_leaves_no_thread_and_lets_nobody_in() -> None:
    before = threading.enumerate()
    with listening() as (_, address):
        late = dial(address, HELLO)  # let in, never taken
        silent = socket.create_connection((address.host, address.port))
    left = [thread for thread in threading.enumerate() if thread.name == "acceptor"]
    assert all(thread in before for thread in left)
    with pytest.raises(DialError, match="cannot be reached"):
        dial(address, HELLO)
    late.close()
    silent.close()


def test_next_incarnation_takes_over_a_listener() -> None:
    """Whoever holds the socket gives each lead a copy; the end of one does not shut it."""
    with create_listener("127.0.0.1") as kept:
        host, port = kept.getsockname()
        Acceptor(kept.dup(), SECRET, 1).close()
        acceptor = Acceptor(kept.dup(), SECRET, INCARNATION)
        key, lead, worker = through(acceptor, LeadAddress(host, port, SECRET, INCARNATION))
        assert key == 3
        for each in (lead, worker, acceptor):
            each.close()


def test_stale_worker_is_told_that_the_group_is_another() -> None:
    with listening() as (acceptor, address):
        stale = msgspec.structs.replace(HELLO, incarnation=INCARNATION - 1)
        with pytest.raises(DialError, match="has been started anew"):
            dial(address, stale)
        fresh = dial(address, HELLO)
        admitted(acceptor)[1].close()
        fresh.close()
