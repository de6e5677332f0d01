"""API keys and their file: what is kept, what is refused, and what changes leave alone."""

import os
import stat
import threading
from pathlib import Path

import pytest

from gateway.security.key_file import KeyFileError, add_key, read_keys, remove_key
from gateway.security.keyring import Keyring
from gateway.security.keys import create_key
from gateway.tenant import KeyScope


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def add(path: Path, name: str = "") -> str:
    key, kept = create_key(name, [KeyScope.INFER])
    add_key(path, kept)
    return key


def keyring_of(path: Path) -> Keyring:
    keyring = Keyring(path)
    keyring.reload()
    return keyring


def test_file_is_only_its_owner_s_and_has_no_secret_in_it(path: Path) -> None:
    key = add(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key.split("-", 2)[2] not in path.read_text()


def test_key_comes_back_as_it_was_made(path: Path) -> None:
    for name in ("", 'a "b" \\ c', "line\nbreak", "\x7f\x00é😀"):
        _, kept = create_key(name, KeyScope, weight=2.5, max_requests=7)
        add_key(path, kept)
        assert read_keys(path)[-1] == kept


def test_only_the_key_itself_opens(path: Path) -> None:
    key = add(path, "a")
    add(path, "b")
    keyring = keyring_of(path)
    found = keyring.find(key)
    assert found is not None and found.name == "a"
    _, key_id, secret = key.split("-", 2)
    wrong = (
        "",
        "-",
        "--",
        "sk",
        f"sk-{key_id}",
        f"sk-{key_id}-",
        f"sk-{key_id}-{secret}x",
        f"sk-{key_id}-{secret[:-1]}",
        f"sk--{secret}",
        f"pk-{key_id}-{secret}",
        f"sk-{key_id.upper()}-{secret}",
        f"sk-ffffffffffff-{secret}",
        f"sk-{key_id}-\udcff",
        secret,
        read_keys(path)[0].sha256,
    )
    assert not any(keyring.find(presented) for presented in wrong)


def test_nobody_comes_in_before_the_file_was_read(path: Path) -> None:
    key = add(path)
    assert Keyring(path).find(key) is None


def test_reload_takes_new_keys_and_drops_old_ones(path: Path) -> None:
    first = add(path)
    keyring = keyring_of(path)
    second = add(path)
    assert remove_key(path, first.split("-")[1])
    assert keyring.find(first) is not None and keyring.find(second) is None
    keyring.reload()
    assert keyring.find(first) is None and keyring.find(second) is not None


BROKEN = {
    "not TOML": "keys = [",
    "unknown field": '[[keys]]\nid = "abcd"\nsha256 = "{digest}"\nscope = "infer"\n',
    "unknown table": "[[key]]\n",
    "no hash": '[[keys]]\nid = "abcd"\n',
    "short hash": '[[keys]]\nid = "abcd"\nsha256 = "ab"\n',
    "odd id": '[[keys]]\nid = "a-b-c"\nsha256 = "{digest}"\n',
    "unknown scope": '[[keys]]\nid = "abcd"\nsha256 = "{digest}"\nscopes = ["root"]\n',
    "the same id twice": '[[keys]]\nid = "abcd"\nsha256 = "{digest}"\n' * 2,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_broken_file_is_refused_by_name_and_the_keys_stay(path: Path, text: str) -> None:
    key = add(path)
    keyring = keyring_of(path)
    path.write_text(text.format(digest="0" * 64))
    with pytest.raises(KeyFileError, match=r"keys\.toml"):
        keyring.reload()
    assert keyring.find(key) is not None


@pytest.mark.parametrize("text", ["", "# API keys\n"])
def test_emptied_file_neither_locks_out_nor_opens(path: Path, text: str) -> None:
    key = add(path)
    keyring = keyring_of(path)
    path.write_text(text)
    with pytest.raises(KeyFileError, match="has no keys"):
        keyring.reload()
    assert keyring.find(key) is not None and keyring.find("") is None
    add(path)
    keyring.reload()
    assert keyring.find(key) is None


def test_file_may_begin_empty_where_nobody_needs_a_key(path: Path) -> None:
    path.write_text("")
    with pytest.raises(KeyFileError, match="has no keys"):
        Keyring(path).reload()
    keyring = Keyring(path, may_be_empty=True)
    keyring.reload()
    key = add(path)
    keyring.reload()
    path.write_text("")
    with pytest.raises(KeyFileError, match="has no keys"):
        keyring.reload()
    assert keyring.find(key) is not None


def test_file_that_is_missing_or_others_may_write_is_refused(path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        read_keys(path)
    add(path)
    path.chmod(0o660)
    with pytest.raises(KeyFileError, match="chmod go-w"):
        read_keys(path)


def test_refusal_does_not_show_the_file(path: Path) -> None:
    path.write_text('[[keys]]\nid = "abcd"\nsha256 = "topsecret"\n')
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as raised:
        read_keys(path)
    assert "topsecret" not in str(raised.value)


def test_changes_keep_comments_order_and_mode(path: Path) -> None:
    ids = [add(path, name).split("-")[1] for name in "abc"]
    text = path.read_text().replace('name = "b"', 'name = "b"  # their second')
    path.write_text(text)
    path.chmod(0o640)
    assert remove_key(path, ids[0])
    assert not remove_key(path, ids[0])
    assert [key.id for key in read_keys(path)] == ids[1:]
    assert "# their second" in path.read_text() and text.splitlines()[0] in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_keys_made_at_once_are_all_kept(path: Path) -> None:
    threads = [threading.Thread(target=add, args=(path,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_keys(path)) == 16
