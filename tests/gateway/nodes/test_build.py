from pathlib import Path

import pytest

from gateway.nodes import build


def test_build_changes_with_any_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def built() -> str:
        build.build_id.cache_clear()
        return build.build_id()

    here = built()
    (tmp_path / "backend").mkdir()
    (tmp_path / "gateway").mkdir()
    monkeypatch.setattr(build, "ROOT", tmp_path)
    empty = built()
    (tmp_path / "gateway" / "new.py").write_text("x = 1\n")
    assert len({here, empty, built()}) == 3
    monkeypatch.undo()
    assert built() == here
