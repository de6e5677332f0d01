"""What is piped in is text, or is refused."""

from pathlib import Path

import pytest

from gateway.options import SettingsError
from gateway.terminal.standard_input import piped_text


def test_file_is_read_if_it_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of others, a traceback came."""
    path = tmp_path / "input"
    path.write_bytes("d\u00e9j\u00e0\n".encode())
    with path.open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert piped_text() == "d\u00e9j\u00e0"
    path.write_bytes(b"\x89PNG\r\n")
    with path.open(encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        with pytest.raises(SettingsError, match="piped in is no text in UTF-8"):
            piped_text()
