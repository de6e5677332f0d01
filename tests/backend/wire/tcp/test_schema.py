"""What the hash of messages depends on."""

import msgspec
import pytest

from backend.wire.tcp import schema
from backend.wire.tcp.schema import schema_hash


class Old(msgspec.Struct, array_like=True, tag="x"):
    """Says one thing."""

    size: int
    text: str = ""


class Reworded(msgspec.Struct, array_like=True, tag="x"):
    """Says the same in other words."""

    size: int
    text: str = ""


class Longer(msgspec.Struct, array_like=True, tag="x"):
    size: int
    text: str = ""
    more: int = 0


def hash_of(monkeypatch: pytest.MonkeyPatch, message: type) -> bytes:
    message.__name__ = "Message"
    monkeypatch.setattr(schema, "Request", message)
    monkeypatch.setattr(schema, "Reply", message)
    return schema_hash.__wrapped__()


def test_hash_knows_fields_and_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    old = hash_of(monkeypatch, Old)
    assert hash_of(monkeypatch, Reworded) == old
    assert hash_of(monkeypatch, Longer) != old


def test_hash_is_the_same_each_time() -> None:
    assert schema_hash.__wrapped__() == schema_hash() and len(schema_hash()) == 16
