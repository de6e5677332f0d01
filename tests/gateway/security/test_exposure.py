"""What may listen where."""

import socket
from pathlib import Path

import pytest

from gateway.security.exposure import Unguarded, check_guarded, is_loopback
from gateway.security.key_file import KeyFileError, add_key
from gateway.security.keys import create_key
from gateway.settings import ServerSettings
from gateway.tenant import KeyScope


def check(address: str, **settings: object) -> None:
    with socket.socket() as listener:
        listener.bind((address, 0))
        check_guarded(listener, ServerSettings(**settings))  # type: ignore[arg-type]


def test_other_machines_need_keys_or_permission(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    add_key(path, create_key("", [KeyScope.INFER])[1])
    check("127.0.0.1")
    check("0.0.0.0", api_keys=str(path))
    check("0.0.0.0", allow_anonymous=True)
    with pytest.raises(Unguarded) as refusal:
        check("0.0.0.0")
    assert "unisono keys new" in str(refusal.value) and "--allow-anonymous" in str(refusal.value)


def test_unreadable_keys_are_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        check("127.0.0.1", api_keys=str(tmp_path / "none.toml"))


def test_file_without_keys_is_told_before_anything_starts(tmp_path: Path) -> None:
    """The server started, and refused every request."""
    path = tmp_path / "keys.toml"
    path.write_text("# to come\n")
    with pytest.raises(KeyFileError) as refusal:
        check("127.0.0.1", api_keys=str(path))
    said = str(refusal.value)
    assert f"unisono keys new --file {path}" in said and "--allow-anonymous" in said
    assert len(said.splitlines()) <= 5
    check("0.0.0.0", api_keys=str(path), allow_anonymous=True)


def test_socket_of_this_machine_needs_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        check_guarded(listener, ServerSettings())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::1%lo", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
