"""A file that cannot be written is refused before anything is measured."""

from pathlib import Path

import pytest

from gateway.commands.output_files import check_output
from gateway.options import SettingsError


def refusal(**files: str) -> str:
    with pytest.raises(SettingsError) as refused:
        check_output(**files)
    return str(refused.value)


def test_directory_is_no_file_to_write(tmp_path: Path) -> None:
    """The figures of a whole run were lost to IsADirectoryError."""
    told = refusal(json="", html=str(tmp_path))
    assert told == f"--html {tmp_path}: it is a directory; name a file in it"


@pytest.mark.parametrize(
    ("name", "words"), [("none/a", "there is no such directory"), ("n" * 300, "File name too long")]
)
def test_file_that_cannot_be_is_refused(tmp_path: Path, name: str, words: str) -> None:
    assert refusal(out=str(tmp_path / name)).endswith(f": {words}")


def test_new_and_old_files_can_be_written(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("{}")
    check_output(json=str(old), html=str(tmp_path / "new.html"), results="")
