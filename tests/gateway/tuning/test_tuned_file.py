import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.settings import EngineSettings
from gateway.options import SettingsError
from gateway.setting_sources import load
from gateway.tuning.tuned_file import FOUND, check_replaceable, write_tuned

VALUES = {"model": "a/model.gguf", "tp": 2, "inter_token_ms": 50.0, "prefix_caching": False}


def test_tuned_file_is_what_serve_takes(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    write_tuned(path, VALUES, ["found by a test", ""])
    assert load({}, {}, path).settings.engine == EngineSettings(
        model="a/model.gguf", tp=2, inter_token_ms=50.0, prefix_caching=False
    )
    assert path.read_text().startswith("# found by a test\n#\n\n[engine]\n")
    assert [*tmp_path.iterdir()] == [path]


def test_settings_that_serve_refuses_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text("as it was")
    with pytest.raises(SettingsError, match="tp must be an integer"):
        write_tuned(path, {"tp": 0}, [])
    assert path.read_text() == "as it was"
    assert [*tmp_path.iterdir()] == [path]


def test_only_what_a_tuning_wrote_is_replaced(tmp_path: Path) -> None:
    """--out of a settings file of one's own lost its [server]."""
    path = tmp_path / "unisono.toml"
    check_replaceable(path)
    write_tuned(path, VALUES, [f"{FOUND}, 2026-11-28, for a"])
    check_replaceable(path)
    path.write_text("[server]\nport = 80\n")
    with pytest.raises(SettingsError, match="not from unisono tune; name another file"):
        check_replaceable(path)


def test_tuned_file_is_utf_8_in_any_locale(tmp_path: Path) -> None:
    """TOML is; in a locale that is not, the end of a tuning was UnicodeEncodeError."""
    program = (
        "import sys; from pathlib import Path; from gateway.tuning.tuned_file import write_tuned\n"
        "write_tuned(Path(sys.argv[1]), {'model': '\\u00e9'}, ['for \\u00e9'])"
    )
    environ = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    path = tmp_path / "tuned.toml"
    subprocess.run([sys.executable, "-c", program, str(path)], env=environ, check=True)
    assert path.read_bytes().decode() == '# for \u00e9\n\n[engine]\nmodel = "\u00e9"\n'
