"""Who is let in, over real sockets."""

import socket

import pytest

from backend.wire.tcp import handshake
from backend.wire.tcp.handshake import Answer, HandshakeError, Hello, Reason, admit, introduce
from tests.backend.wire.tcp.pairs import HELLO, INCARNATION, SECRET, connected, in_thread


def meet(
    lead_secret: bytes = SECRET,
    worker_secret: bytes = SECRET,
    hello: Hello = HELLO,
    incarnation: int = INCARNATION,
) -> tuple[Hello | HandshakeError, Answer | HandshakeError]:
    """Return what each side makes of the other."""
    lead, worker = connected()
    with lead, worker:
        admitting = in_thread(lambda: admit(lead, lead_secret, incarnation))
        there: Answer | HandshakeError
        here: Hello | HandshakeError
        try:
            there = introduce(worker, worker_secret, hello)
        except HandshakeError as error:
            there = error
        worker.close()
        try:
            here = admitting()
        except HandshakeError as error:
            here = error
    return here, there


def test_both_sides_learn_who_the_other_is() -> None:
    here, there = meet()
    assert isinstance(here, Hello) and (here.worker, here.epoch) == (3, 5)
    assert isinstance(there, Answer) and there.incarnation == INCARNATION


def test_workers_of_other_gateways_have_other_keys() -> None:
    assert Hello(0, 3, 1, 0).worker_key == 3, "the supervisor names suspects by this"
    keys = {Hello(gateway, 3, 1, 0).worker_key for gateway in (0, 1, 2**31 - 1)}
    assert len(keys) == 3 and max(keys) < 2**63


@pytest.mark.parametrize(("lead", "worker"), [(SECRET, bytes(32)), (bytes(32), SECRET)])
def test_wrong_secret_is_refused_on_both_sides(lead: bytes, worker: bytes) -> None:
    here, there = meet(lead, worker)
    for error in (here, there):
        assert isinstance(error, HandshakeError) and error.reason is Reason.SECRET
        assert SECRET.hex() not in str(error)


def test_channel_to_a_dead_incarnation_is_refused() -> None:
    here, there = meet(incarnation=INCARNATION + 1)
    for error in (here, there):
        assert isinstance(error, HandshakeError) and error.reason is Reason.INCARNATION
    anybody, _ = meet(hello=Hello(9, 1, 1, incarnation=0))
    assert isinstance(anybody, Hello)


def test_other_messages_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = iter([b"worker's", b"lead's", b"lead's", b"worker's"])
    monkeypatch.setattr(handshake, "schema_hash", lambda: next(hashes))
    here, there = meet()
    for error in (here, there):
        assert isinstance(error, HandshakeError) and error.reason is Reason.SCHEMA
    assert "run the same on both" in str(there)


def test_recorded_handshake_opens_nothing() -> None:
    """The bytes of a worker that was let in, sent again as they were."""
    recorded = b""
    lead, worker = connected()
    middle, dialled = connected()
    with lead, worker, middle, dialled:
        admitting = in_thread(lambda: admit(lead, SECRET, INCARNATION))
        introducing = in_thread(lambda: introduce(dialled, SECRET, HELLO))
        middle.sendall(_receive(worker, handshake.PREFACE_BYTES))
        recorded = middle.recv(1 << 16)
        worker.sendall(recorded)
        assert admitting().worker == 3
        middle.sendall(worker.recv(1 << 16))
        introducing()
    lead, thief = connected()
    with lead, thief:
        admitting = in_thread(lambda: admit(lead, SECRET, INCARNATION))
        thief.sendall(recorded)
        with pytest.raises(HandshakeError) as error:
            admitting()
        assert error.value.reason is Reason.SECRET


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n....", Reason.STRANGER),
        (handshake.MAGIC + b"\x63" + bytes(32), Reason.PROTOCOL),
        (handshake.MAGIC + b"\x01" + bytes(32) + b"\xff\xff", Reason.STRANGER),
        (handshake.MAGIC + b"\x01" + bytes(32) + b"\x01\x00x" + bytes(32), Reason.STRANGER),
        (handshake.MAGIC, Reason.CLOSED),
    ],
)
def test_strangers_are_turned_away(words: bytes, reason: Reason) -> None:
    lead, stranger = connected()
    with lead:
        admitting = in_thread(lambda: admit(lead, SECRET, INCARNATION))
        stranger.sendall(words)
        stranger.shutdown(socket.SHUT_WR)
        with pytest.raises(HandshakeError) as error:
            admitting()
        assert error.value.reason is reason
        stranger.close()


def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.01)
    lead, silent = connected()
    with lead, silent, pytest.raises(HandshakeError) as error:
        admit(lead, SECRET, INCARNATION)
    assert error.value.reason is Reason.SLOW


def _receive(sock: socket.socket, num_bytes: int) -> bytes:
    data = b""
    while len(data) < num_bytes:
        data += sock.recv(num_bytes - len(data))
    return data
