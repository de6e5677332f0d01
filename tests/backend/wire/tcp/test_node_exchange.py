"""An exchange between ranks of several machines, over real sockets of loopback."""

import ssl
import threading

import pytest

from backend.wire.channel import ChannelBroken, PeerGone
from backend.wire.tcp.address import LeadAddress
from backend.wire.tcp.encryption import encrypt, fingerprint, lead_context, self_signed_pair
from backend.wire.tcp.node_exchange import HEADER, NodeExchange
from backend.wire.tcp.stream import Stream
from tests.backend.wire.tcp.pairs import SECRET, WAIT_S, connected, in_thread


def swap(one: NodeExchange, two: NodeExchange, out: bytes, back: bytes) -> tuple[bytes, bytes]:
    """Exchange between two, each the other's number 0; return what each heard."""
    heard, answered = bytearray(len(back)), bytearray(len(out))
    result = in_thread(lambda: two.exchange({0: memoryview(back)}, {0: memoryview(answered)}))
    one.exchange({0: memoryview(out)}, {0: memoryview(heard)})
    result()
    return bytes(heard), bytes(answered)


def pair() -> tuple[NodeExchange, NodeExchange]:
    a, b = connected()
    return NodeExchange({0: Stream(a)}), NodeExchange({0: Stream(b)})


def encrypted_pair() -> tuple[NodeExchange, NodeExchange]:
    certificate, key = self_signed_pair()
    a, b = connected()
    address = LeadAddress("127.0.0.1", 1, SECRET, 7, fingerprint(certificate))
    serving = in_thread(lambda: lead_context(certificate, key).wrap_socket(a, server_side=True))
    dialled = encrypt(b, address)
    accepted = serving()
    assert isinstance(accepted, ssl.SSLSocket)
    return NodeExchange({0: Stream(accepted)}), NodeExchange({0: Stream(dialled)})


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_both_hear_messages_larger_than_any_buffer(is_encrypted: bool) -> None:
    """Both send first: whoever waited for room without reading would wait for ever."""
    one, two = encrypted_pair() if is_encrypted else pair()
    for size in (1, 1000, 16 << 20, 3):
        out, back = bytes([1]) * size, bytes([2]) * size
        assert swap(one, two, out, back) == (back, out)
    one.close()
    two.close()


def test_length_that_is_not_due_and_damage_are_refused() -> None:
    for message, why in (
        (HEADER.pack(3, 0) + b"abc", "sent 3 bytes where 4 were due"),
        (HEADER.pack(4, 0) + b"abcd", "message 0 .* damaged"),
    ):
        a, b = connected()
        one = NodeExchange({0: Stream(a)})
        b.sendall(message)
        with b, pytest.raises(ChannelBroken, match=why):
            one.exchange({0: memoryview(b"abcd")}, {0: memoryview(bytearray(4))})
        one.close()


def test_rank_that_waits_says_so_and_hears_of_the_others_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.wire.tcp.node_exchange.BEAT_MS", 1)
    waited = threading.Event()
    a, b = connected()
    one = NodeExchange({0: Stream(a)}, waited.set)
    call = in_thread(lambda: one.exchange({0: memoryview(b"abcd")}, {0: memoryview(bytearray(4))}))
    assert waited.wait(WAIT_S)
    b.close()
    with pytest.raises(PeerGone):
        call()
    one.close()
