"""How two machines find out that they may talk: what is said before the first frame.

    lead    -> worker   preface: "UNISONO", protocol u8, nonce [32]
    worker  -> lead     preface, then a packet of Hello
    lead    -> worker   a packet of Answer

    packet  length u16, msgpack `length` bytes, tag [32]

A tag is HMAC-SHA256 by the secret over who speaks, both nonces so far and the msgpack: each side
shows that it has the secret, for these nonces only, so that a recorded handshake opens nothing.
Sockets here wait, within a timeout that is set; both sides run this in a thread.
"""

import enum
import hmac
import os
import socket
import struct
import time
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from backend.wire.tcp.schema import schema_hash

T = TypeVar("T")

MAGIC = b"UNISONO"
PROTOCOL = 1
NONCE_BYTES = TAG_BYTES = 32
PREFACE_BYTES = len(MAGIC) + 1 + NONCE_BYTES
LENGTH = struct.Struct("<H")
MAX_PACKET_BYTES = 1024
# From the connection to its verdict; a round trip or two, and a busy lead's thread.
HANDSHAKE_SECONDS = 5.0

Number = Annotated[int, Meta(ge=0, lt=2**31)]
Epoch = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Reason(enum.StrEnum):
    """Why nothing comes of a connection."""

    SECRET = "the secret is wrong"
    STRANGER = "the other side does not speak Unisono's protocol"
    PROTOCOL = "the other side runs another version of Unisono's protocol"
    SCHEMA = "the other side runs a version of Unisono with other messages; run the same on both"
    INCARNATION = "the group that was meant has been started anew since"
    SLOW = "the other side took too long to say who it is"
    ENCRYPTION = "encryption could not be agreed on"
    CLOSED = "the other side closed the connection"


class HandshakeError(Exception):
    """A connection comes to nothing. The message names no secret."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else str(reason))
        self.reason = reason


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """Who a worker is, and which group it means. See control.Dial; incarnation: 0 for any."""

    gateway: Number
    worker: Number
    epoch: Epoch
    incarnation: Epoch
    schema: bytes = b""

    @property
    def worker_key(self) -> int:
        """Who it is among the workers of all gateways; those of the group's own keep their number.

        Below 2**63.
        """
        return self.gateway << 32 | self.worker


def is_of_another_gateway(worker_key: int) -> bool:
    """Whether a worker belongs to a server that has joined the group."""
    return worker_key >> 32 != 0


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """reason: why the worker is refused; None if it is welcome. schema: of the lead's messages."""

    reason: Reason | None = None
    incarnation: Epoch = 0
    schema: bytes = b""


def admit(sock: socket.socket, secret: bytes, incarnation: int) -> Hello:
    """Hear who has connected. Raises HandshakeError, after it has been told as much, and OSError.

    incarnation: the group's epoch.
    """
    deadline_s = time.monotonic() + HANDSHAKE_SECONDS
    nonce = os.urandom(NONCE_BYTES)
    sock.settimeout(HANDSHAKE_SECONDS)
    sock.sendall(_preface(nonce))
    other = _read_preface(sock, deadline_s)
    body, tag = _read_packet(sock, deadline_s)
    hello = _decode(body, Hello)
    refusal: Reason | None = None
    if not hmac.compare_digest(tag, _tag(secret, b"worker", nonce, other, body)):
        refusal = Reason.SECRET
    elif hello.schema != schema_hash():
        refusal = Reason.SCHEMA
    elif hello.incarnation not in (0, incarnation):
        refusal = Reason.INCARNATION
    answer = msgspec.msgpack.encode(Answer(refusal, incarnation, schema_hash()))
    if refusal is Reason.SECRET:
        # Nothing is signed for somebody without the secret.
        sock.sendall(_packet(msgspec.msgpack.encode(Answer(refusal)), bytes(TAG_BYTES)))
    else:
        sock.sendall(_packet(answer, _tag(secret, b"lead", nonce, other, answer)))
    if refusal is not None:
        raise HandshakeError(refusal)
    return hello


def introduce(sock: socket.socket, secret: bytes, hello: Hello) -> Answer:
    """Say who we are; return once we are welcome. Raises HandshakeError and OSError."""
    deadline_s = time.monotonic() + HANDSHAKE_SECONDS
    nonce = os.urandom(NONCE_BYTES)
    theirs = _read_preface(sock, deadline_s)
    body = msgspec.msgpack.encode(msgspec.structs.replace(hello, schema=schema_hash()))
    tag = _tag(secret, b"worker", theirs, nonce, body)
    sock.sendall(_preface(nonce) + _packet(body, tag))
    body, tag = _read_packet(sock, deadline_s)
    answer = _decode(body, Answer)
    if answer.reason is Reason.SECRET:
        raise HandshakeError(answer.reason)
    if not hmac.compare_digest(tag, _tag(secret, b"lead", theirs, nonce, body)):
        raise HandshakeError(Reason.SECRET, "what answers is not the group")
    if answer.reason is not None:
        detail = ""
        if answer.reason is Reason.SCHEMA:
            detail = f"schema {answer.schema.hex()[:8]} there, {schema_hash().hex()[:8]} here"
        raise HandshakeError(answer.reason, detail)
    return answer


def _tag(secret: bytes, speaker: bytes, lead_nonce: bytes, nonce: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, b"unisono " + speaker + b"\0" + lead_nonce + nonce + body, "sha256")


def _preface(nonce: bytes) -> bytes:
    return MAGIC + bytes([PROTOCOL]) + nonce


def _read_preface(sock: socket.socket, deadline_s: float) -> bytes:
    """Return the other side's nonce."""
    preface = _read(sock, PREFACE_BYTES, deadline_s)
    if not preface.startswith(MAGIC):
        raise HandshakeError(Reason.STRANGER)
    if preface[len(MAGIC)] != PROTOCOL:
        raise HandshakeError(Reason.PROTOCOL, f"{preface[len(MAGIC)]} there, {PROTOCOL} here")
    return preface[len(MAGIC) + 1 :]


def _packet(body: bytes, tag: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body + tag


def _read_packet(sock: socket.socket, deadline_s: float) -> tuple[bytes, bytes]:
    [length] = LENGTH.unpack(_read(sock, LENGTH.size, deadline_s))
    if length > MAX_PACKET_BYTES:
        raise HandshakeError(Reason.STRANGER)
    packet = _read(sock, length + TAG_BYTES, deadline_s)
    return packet[:length], packet[length:]


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise HandshakeError(Reason.STRANGER) from None


def _read(sock: socket.socket, num_bytes: int, deadline_s: float) -> bytes:
    """Read exactly so many bytes by a time, however slowly they trickle in."""
    data = bytearray()
    while len(data) < num_bytes:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise HandshakeError(Reason.SLOW)
        sock.settimeout(left_s)
        try:
            piece = sock.recv(num_bytes - len(data))
        except TimeoutError:
            raise HandshakeError(Reason.SLOW) from None
        if not piece:
            raise HandshakeError(Reason.CLOSED)
        data += piece
    return bytes(data)
